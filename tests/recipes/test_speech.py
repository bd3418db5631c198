"""The two recipes for sound: smoke tests, WAV files and archives, word error rates, bad input."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.recipes import running
from recipes import keyword_spotting, speech_recognition


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], keyword_spotting.Clips]:
    def loaded(path: Path | str) -> keyword_spotting.Clips:
        monkeypatch.setenv("NAS_DATASET", str(path))
        keyword_spotting.load_clips.cache_clear()
        return keyword_spotting._clips()

    return loaded


def write_wav(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(1000)
        file.writeframes(samples.tobytes())


def write_words(folder: Path) -> None:
    for word, value in (("no", 100), ("yes", 200)):
        for i in range(10):
            write_wav(folder / word / f"{i}.wav", np.full(900 + 20 * i, value, "<i2"))


def test_the_smoke_test_finds_keywords(smoke) -> None:
    scores = smoke(keyword_spotting, "--limit", "32", values={"network/1d/blocks/depth": 1})
    assert 0 <= scores["search"]["accuracy"] <= 1


def test_the_smoke_test_recognises_sequences(smoke) -> None:
    scores = smoke(speech_recognition, "--limit", "16", values={"blocks/depth": 1}, traced=True)
    assert 0 <= scores["search"]["wrong_sequences"] <= 1


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_models_take_sound_whatever_its_loudness(kind: str, monkeypatch) -> None:
    monkeypatch.setenv("NAS_LIMIT", "50")
    hp = keras_tuner.HyperParameters()
    hp.Fixed("network", kind)
    model = keyword_spotting.build_model(hp)
    x = keyword_spotting._clips().splits.test[0][:4]
    probabilities = running.predict(model, x)
    assert probabilities.shape == (4, 10)
    np.testing.assert_allclose(running.predict(model, x // 2), probabilities, atol=0.02)


def test_wav_files_are_read_in_the_splits_of_the_folder(tmp_path: Path, load) -> None:
    write_words(tmp_path)
    clips = load(tmp_path)
    assert clips.rate == 1000
    assert clips.splits.class_names == ["no", "yes"]
    x, y = clips.splits.training
    assert x.shape == (12, 1000)
    np.testing.assert_allclose(x.max(axis=1), 100 + 100 * y, atol=1)
    (tmp_path / "testing_list.txt").write_text("no/0.wav\nyes/9.wav\n")
    (tmp_path / "validation_list.txt").write_text("no/1.wav\n")
    splits = load(tmp_path).splits
    assert [y.tolist() for _, y in (splits.validation, splits.test)] == [[0], [0, 1]]
    assert len(splits.training[1]) == 17


def test_mu_law_is_read(tmp_path: Path, load) -> None:
    codes = np.tile(np.array([-127, 0, 127], "int8"), (20, 400))
    np.savez(tmp_path / "a.npz", x_train=codes, y_train=np.arange(20) % 2, rate=1000)
    clips = load(tmp_path / "a.npz")
    assert clips.splits.training[0].shape == (12, 1000)
    assert clips.splits.training[0][0, :3].tolist() == [-32767, 0, 32767]


def test_errors_of_sound_files_name_the_problem(tmp_path: Path, load) -> None:
    with pytest.raises(ValueError, match="of WAV files for each word; got none"):
        load(tmp_path)
    write_words(tmp_path)
    (tmp_path / "yes" / "x.wav").write_bytes(b"RIFF cut off")
    with pytest.raises(ValueError, match=r"x\.wav` must be a WAV file"):
        load(tmp_path)
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.zeros((4, 9)), y_train=np.zeros(3))
    with pytest.raises(ValueError, match=r"must have clips x_train of shape \(n, samples\)"):
        load(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="must be an .npz file of plain arrays"):
        load(path)
    with pytest.raises(ValueError, match="must be generated, speech_commands.*got 'speech'"):
        load("speech")


def test_sequences_hold_the_words_in_order() -> None:
    clips = np.zeros((3, 1000), "int16")
    for i, clip in enumerate(clips):
        clip[300 : 400 + 100 * i] = 1000 * (i + 1)
    sound, words = speech_recognition.sequences(clips, np.array([4, 5, 6]), 20, 2000, seed=0)
    assert sound.shape == (20, 2000)
    for row, labels in zip(sound, words, strict=True):
        levels = [
            int(v) // 1000 for v, before in zip(row[1:], row, strict=False) if v and v != before
        ]
        assert levels == [label - 4 for label in labels if label] or 0 in np.diff(
            labels[labels > 0]
        )
        assert 2 <= (labels > 0).sum() <= 4
    again = speech_recognition.sequences(clips, np.array([4, 5, 6]), 20, 2000, seed=0)
    np.testing.assert_array_equal(again[0], sound)


def test_word_error_rates() -> None:
    rate = speech_recognition.word_error_rate
    assert rate([[1, 2, 3]], [[1, 2, 3]]) == 0
    assert rate([[1, 2, 3]], [[]]) == 1
    assert rate([[1, 2], [3, 4]], [[2], [3, 5, 4]]) == 0.5  # a deletion and an insertion
    assert rate(["a b".split()], ["b a".split()]) == 1  # two substitutions
    assert rate([[1]], [[1, 1, 1]]) == 2
    for references, transcriptions in (([[1]], []), ([[]], [[]])):
        with pytest.raises(ValueError, match="must be as many as `spoken_words`"):
            rate(references, transcriptions)


def test_transcriptions_join_repetitions_between_blanks() -> None:
    path = [0, 2, 2, 0, 2, 1, 1, 0]
    assert speech_recognition.transcribed(np.eye(3)[[path, [0] * 8]]) == [[2, 2, 1], []]
