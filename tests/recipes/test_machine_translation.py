"""The recipe for translation: smoke test, tokens, greedy decoding, BLEU, bad input."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recipes import machine_translation as recipe


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    recipe._load.cache_clear()


def test_the_smoke_test_translates(smoke) -> None:
    pytest.importorskip("sacrebleu")
    scores = smoke(recipe, "--limit", "32")
    assert set(scores["search"]) == {"bleu", "chrf"}


def test_a_missing_package_is_named_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="needs the package sacrebleu.*pip install sacrebleu"):
        recipe.main(["--smoke"])


def test_generated_numbers_differ_in_the_order_of_words() -> None:
    assert [recipe.english(n) for n in (0, 12, 30, 643, 5100)] == [
        "zero",
        "twelve",
        "thirty",
        "six hundred forty three",
        "five thousand one hundred",
    ]
    assert [recipe.german(n) for n in (0, 12, 21, 643, 1001)] == [
        "null",
        "zwölf",
        "ein und zwanzig",
        "sechs hundert drei und vierzig",
        "ein tausend eins",
    ]


def test_a_file_becomes_tokens_with_the_target_a_step_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sentences.tsv"
    lines = [f"val\tA dog.\tEin Hund {i}." for i in range(3)]
    lines += [f"train\tA cat, {i % 4}!\tEine Katze {i % 4}!" for i in range(20)]
    lines += ["test\tA dog, 1!\tEin Hund, 1!"]
    path.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("NAS_DATASET", str(path))
    (x, y), (x_val, _), (x_test, y_test) = recipe.load_data()
    corpus = recipe._corpus()
    assert [len(y), len(x_val["source"]), len(y_test)] == [20, 3, 1]
    assert corpus.references == ("Ein Hund, 1!",)
    words = [corpus.target_words[token] for token in y[0] if token]
    assert words == ["eine", "katze", "0", "!", "<end>"]
    np.testing.assert_array_equal(x["target"][:, 1:], y[:, :-1])
    assert [corpus.source_words[token] for token in x_test["source"][0] if token] == [
        "a",
        "<rare>",
        ",",
        "1",
        "!",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one\ttwo\tthree", "line 1: must be source<TAB>target or split<TAB>source<TAB>target"),
        ("x\ty\n" * 3, "must have enough rows"),
        (f"{'a ' * 50}\tb\n" * 30, "must have sentences of at most 40 words; got none"),
    ],
)
def test_errors_of_files_name_the_problem(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sentences.tsv"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("NAS_DATASET", str(path))
    with pytest.raises(ValueError, match=message):
        recipe.load_data()
    monkeypatch.setenv("NAS_DATASET", "multi30k")
    with pytest.raises(ValueError, match="must be generated or an existing file.*got 'multi30k'"):
        recipe.load_data()


def test_decoding_feeds_tokens_back_and_ends_each_sentence_at_its_own_end() -> None:
    # The next token is the last one plus the number in the source, and END from 10 on.
    def predict(inputs: dict[str, np.ndarray]) -> np.ndarray:
        following = inputs["target"] + inputs["source"][:, :1]
        return np.eye(40)[np.where(following >= 10, recipe.END, following)]

    model = SimpleNamespace(predict_on_batch=predict)
    source = np.repeat([[3], [8], [9]], recipe.BATCH, axis=0)  # more than a batch
    rows = recipe.translate(model, source, steps=6)
    expected = np.repeat([[4, 7, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0], [0] * 6], recipe.BATCH, axis=0)
    np.testing.assert_array_equal(rows, expected)
    assert recipe.translate(model, np.array([[1]]), steps=3).tolist() == [[0, 0, 0]]  # END is 2


def test_bleu_ignores_case_and_is_100_for_equal_sentences() -> None:
    pytest.importorskip("sacrebleu")
    references = ["Ein Hund läuft über die Wiese.", "Zwei Katzen schlafen auf dem Sofa."]
    equal = recipe.bleu(["ein hund läuft über die wiese .", references[1].lower()], references)
    assert equal == {"bleu": pytest.approx(100), "chrf": pytest.approx(100, abs=2)}
    wrong = recipe.bleu(["ein hund schläft auf der wiese .", "eine katze"], references)
    assert 0 < wrong["bleu"] < 50
