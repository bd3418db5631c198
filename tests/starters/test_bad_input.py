"""Data that no recipe can be written for, and data with something to be said about them."""

import io

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.io import wavfile

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.errors import RecipeError, SourceError
from keras_nas_plugin.starters import Request, draft_recipe, read_table
from tests.starters import sources

PLENTY = 10**12


def table(folder, text, name="data.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(line, count=30):
    """A table of a number, a category and two classes, with a line for each row."""
    lines = [line(number) for number in range(count)]
    return "x,c,y\n" + "\n".join(lines) + "\n"


def usual(number):
    return f"{(number * 7) % 30 / 10},{'ab'[number // 3 % 2]},{'no yes'.split()[number % 2]}"


def image(path, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def clip(path, samples=400, rate=4000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (samples, channels) if channels > 1 else (samples,)
    wavfile.write(path, rate, np.zeros(shape, "int16"))


def photos(folder, **changed):
    for name in ("cat", "dog"):
        for number in range(4):
            image(folder / "photos" / name / f"{number}.png", **changed)
    return folder / "photos"


def clips(folder, **changed):
    for name in ("no", "yes"):
        for number in range(4):
            clip(folder / "clips" / name / f"{number}.wav", **changed)
    return folder / "clips"


def arrays(folder, **content):
    path = folder / "data.npz"
    np.savez(path, **content)
    return path


def texts(folder, content=b"some words"):
    for name in ("bad", "good"):
        for number in range(4):
            path = folder / "texts" / name / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder / "texts"


def with_file(folder, name, content=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder


def empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def segments(folder, value=255):
    """Images with masks of two values."""
    for number in range(6):
        image(folder / "segments" / "images" / f"{number}.png")
        path = folder / "segments" / "masks" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((8, 8), "uint8")
        pixels[:, :4] = value
        Image.fromarray(pixels).save(path)
    return folder / "segments"


def excel(folder):
    return table(folder, b"PK\x03\x04" + bytes(100), "data.csv")


def one_series(folder):
    text = "@timeStamps false\n@classLabel true a b\n@data\n1,2,x:a\n"
    return table(folder, text, "series.ts")


REFUSED = {
    "missing file": (lambda f: f / "nothing.csv", {}, "an existing file or folder"),
    "misspelt file": (
        lambda f: table(f, rows(usual), "data.csv").with_name("dta.csv"),
        {},
        "Did you mean `data.csv`?",
    ),
    "empty file": (lambda f: table(f, ""), {"target": "y"}, "it is empty"),
    "blank lines only": (lambda f: table(f, "\n\n\n"), {"target": "y"}, "it is empty"),
    "header only": (lambda f: table(f, "x,c,y\n"), {"target": "y"}, "only the first line"),
    "no header": (lambda f: table(f, "1,2\n3,4\n"), {"target": "y"}, "got the numbers 1, 2"),
    "one class": (
        lambda f: table(f, rows(lambda n: f"{n / 7},a,yes")),
        {"target": "y"},
        "at least two classes; got only 'yes'",
    ),
    "no target": (lambda f: table(f, "x,z\n1,2\n"), {}, "`--target` must name the column"),
    "target misspelt": (
        lambda f: table(f, rows(usual)),
        {"target": "Y1"},
        "got 'Y1'. Did you mean `y`?",
    ),
    "target without values": (
        lambda f: table(f, rows(lambda n: f"{n},a,")),
        {"target": "y"},
        "all are missing",
    ),
    "one row of each class": (
        lambda f: table(f, rows(lambda n: f"{n / 7},a,name{n}")),
        {"target": "y"},
        "classes of a single one",
    ),
    "too few rows of most classes": (
        lambda f: table(f, rows(lambda n: f"{n / 7},a,{'big' if n > 1 else n}x")),
        {"target": "y"},
        "with 3 rows or more",
    ),
    "texts for a regression": (
        lambda f: table(f, rows(usual)),
        {"target": "y", "task": "regression"},
        "must have numbers for --task regression; got 'no'",
    ),
    "no useful column": (
        lambda f: table(f, rows(lambda n: f"1,a,{'no yes'.split()[n % 2]}")),
        {"target": "y"},
        "none is usable",
    ),
    "repeated names": (lambda f: table(f, "x,x,y\n1,2,a\n"), {"target": "y"}, "'x' more than"),
    "a row of texts as header": (
        lambda f: table(
            f, "ham\t" + "see you later " * 9 + "\nspam\twin a prize now or never\n", "data.tsv"
        ),
        {},
        "must have names of columns in their first line, such as `label` and `text`",
    ),
    "too many fields": (
        lambda f: table(f, rows(usual) + "1,a,no,4,5\n"),
        {"target": "y"},
        "line 32 has 5 instead of 3",
    ),
    "too few fields": (
        lambda f: table(f, rows(usual) + "1\n"),
        {"target": "y"},
        "line 32 has 1 instead of 3",
    ),
    "Latin-1": (
        lambda f: table(f, rows(usual).replace("yes", "ja\xdf").encode("latin-1")),
        {"target": "y"},
        "iconv -f cp1252 -t utf-8",
    ),
    "UTF-16": (lambda f: table(f, rows(usual).encode("utf-16")), {"target": "y"}, "utf-16"),
    "an Excel file": (excel, {"target": "y"}, "export it as CSV"),
    "binary data": (lambda f: table(f, bytes(range(200))), {"target": "y"}, "binary data"),
    "two decimal signs": (
        lambda f: table(f, rows(lambda n: f'"{n}{",."[n % 2]}5",a,{"no yes".split()[n % 2]}')),
        {"target": "y"},
        "must have one decimal sign; got both",
    ),
    "no Parquet file": (lambda f: table(f, "x", "data.parquet"), {"target": "y"}, "Parquet"),
    "unknown ending": (lambda f: table(f, "x", "data.docx"), {}, "got 'data.docx'"),
    "folder of other files": (
        lambda f: with_file(f / "docs", "a/b.pdf", b"x"),
        {},
        "got files .pdf",
    ),
    "empty folder": (empty_folder, {}, "is empty"),
    "task of other data": (
        photos,
        {"task": "forecast"},
        "classification or generation for images",
    ),
    "image without a mask": (
        lambda f: (segments(f) / "masks" / "3.png").unlink() or f / "segments",
        {},
        "a mask in `masks/` for each image in `images/`, with the same name; got none of 3.png",
    ),
    "masks of colours": (
        lambda f: (image(segments(f) / "masks" / "3.png"), f / "segments")[1],
        {},
        "an image of grey values or of a palette",
    ),
    "masks of another size": (
        lambda f: (image(segments(f) / "masks" / "3.png", (9, 9), "L"), f / "segments")[1],
        {},
        "must have the size of its image, 8x8; got 9x9",
    ),
    "masks of one value": (
        lambda f: segments(f, value=0),
        {},
        "a value for each class, 2 to 50; got 1 (0)",
    ),
    "one column of texts": (
        lambda f: table(f, rows(usual)),
        {"task": "translation"},
        "must have two columns of texts",
    ),
    "unreadable image": (
        lambda f: with_file(photos(f), "cat/broken.png", b"no image"),
        {},
        "broken.png` must be an image",
    ),
    "images without classes": (
        lambda f: (image(f / "photos" / "1.png"), f / "photos")[1],
        {},
        "1 images without a class",
    ),
    "one folder of images": (
        lambda f: (image(f / "photos" / "cat" / "1.png"), f / "photos")[1],
        {},
        "at least two classes",
    ),
    "folders of splits": (
        lambda f: (photos(f).rename(f / "train"), f)[1],
        {},
        "must have a folder of images for each class; got train",
    ),
    "an image that is no sound": (
        lambda f: with_file(clips(f), "no/broken.wav", b"RIFF0000WAVEjunk"),
        {},
        "must be a WAV file",
    ),
    "clip of no length": (
        lambda f: (clip(clips(f) / "no" / "empty.wav", 0), f / "clips")[1],
        {},
        "a length of 0 seconds",
    ),
    "texts in Latin-1": (lambda f: texts(f, b"\xfc\xdf"), {}, "must be a text in UTF-8"),
    "empty texts": (lambda f: texts(f, b" "), {}, "all are empty"),
    "arrays without y": (lambda f: arrays(f, x=np.zeros((9, 4))), {}, "arrays x and y; got x"),
    "fewer labels than series": (
        lambda f: arrays(f, x=np.zeros((9, 4)), y=np.zeros(8)),
        {},
        "a label for each of 9 series",
    ),
    "arrays of images": (
        lambda f: arrays(f, x=np.zeros((9, 4, 4, 3)), y=np.zeros(9)),
        {},
        "numbers of shape (series, steps)",
    ),
    "broken archive": (lambda f: table(f, "x", "data.npz"), {}, "an .npz file of plain arrays"),
    "pickled objects": (
        lambda f: arrays(f, x=np.array([{}, {}], dtype=object), y=np.zeros(2)),
        {},
        "an .npz file of plain arrays",
    ),
    "series without data": (
        lambda f: table(f, "@classLabel true a b\n", "s.ts"),
        {},
        "must have a line `@data`",
    ),
    "series without labels": (
        lambda f: table(f, "@classLabel false\n@data\n1,2\n", "s.ts"),
        {},
        "a label for each series",
    ),
    "texts in a series": (one_series, {}, "line 4"),
    "series too large": (
        lambda f: arrays(f, x=np.zeros((99, 40)), y=np.arange(99) % 2),
        {"memory": 1000},
        "must fit into memory",
    ),
    "texts too large": (texts, {"memory": 10}, "Write the texts to a Parquet file"),
    "too short to forecast": (
        lambda f: table(f, rows(lambda n: f"{n},a,{n}", 9)),
        {"task": "forecast", "horizon": 5},
        "steps for a horizon of 5; got 9",
    ),
    "nothing to forecast": (
        lambda f: table(f, rows(lambda n: f"a{n % 3},b{n % 2},c{n % 4}")),
        {"task": "forecast"},
        "a column of numbers to forecast",
    ),
}


@pytest.mark.parametrize(("write", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_data_that_cannot_be_used_are_refused_in_one_sentence(tmp_path, write, options, message):
    source = write(tmp_path)
    with pytest.raises(SourceError) as caught:
        draft_recipe(Request(source, **{"memory": PLENTY, **options}))
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert "must" in text  # what it must be
    assert issubclass(SourceError, RecipeError)  # the exit code is 2


NOTICED = {
    "id": (
        lambda f: table(f, rows(lambda n: f"{n},{'ab'[n // 3 % 2]},{'no yes'.split()[n % 2]}")),
        "Column `x` is left out: it is an id",
    ),
    "constant": (
        lambda f: table(f, rows(usual).replace(",b,", ",a,")),
        "Column `c` is left out: it is constant ('a').",
    ),
    "empty column": (
        lambda f: table(f, rows(usual).replace(",b,", ",,").replace(",a,", ",NA,")),
        "Column `c` is left out: it is empty.",
    ),
    "missing values": (
        lambda f: table(f, rows(usual).replace(",b,", ",,")),
        "missing values are a category",
    ),
    "rare categories": (
        lambda f: table(f, rows(usual) + "1,rare,no\n"),
        "1 rare categories share a feature (rare)",
    ),
    "imbalance": (
        lambda f: table(f, rows(lambda n: f"{n * 7 % 30 / 10},a,{'yes' if n < 4 else 'no'}")),
        "The classes are imbalanced ('yes' has 4 of 30 rows)",
    ),
    "a rare class": (
        lambda f: table(f, rows(usual) + "1,a,maybe\n"),
        "Classes with fewer than 3 rows are left out, since they cannot be divided: maybe (1).",
    ),
    "rows without target": (
        lambda f: table(f, rows(usual) + "1,a,\n"),
        "1 rows without `y` are left out.",
    ),
    "numbers stored as text": (
        lambda f: table(f, rows(usual) + "none,a,no\n"),
        "numbers stored as text, 1 of which are no numbers",
    ),
    "separators of thousands": (
        lambda f: table(f, rows(lambda n: f'"{n * 7 % 30 + 1},234",a,{"no yes".split()[n % 2]}')),
        "numbers with separators of thousands",
    ),
    "dates": (
        lambda f: table(
            f,
            rows(lambda n: f"{n / 7},2026-{n % 9 + 1:02d}-{n % 4 + 1:02d},{'ab'[n % 2]}"),
        ),
        "Column `c`: dates (%Y-%m-%d)",
    ),
    "dates that are ambiguous": (
        lambda f: table(
            f, rows(lambda n: f"{n / 7},0{n % 9 + 1}/0{n % 4 + 1}/2026,{'ab'[n % 2]}")
        ),
        "read as %m/%d/%Y, although %d/%m/%Y fits as well",
    ),
    "leakage": (
        lambda f: table(
            f, rows(lambda n: f"{n * 7 % 30 / 10},{'ab'[n % 2]},{'no yes'.split()[n % 2]}")
        ),
        "WARNING: column `c` alone determines `y`",
    ),
    "repeated rows": (
        lambda f: table(f, rows(usual) + "0.0,a,no\n0.0,a,no\n"),
        "2 rows occur more than once",
    ),
    "10 GB on 2 GB": (
        lambda f: table(f, rows(usual)),
        "it is read in parts",
    ),
    "image sizes": (
        lambda f: (image(photos(f) / "cat" / "large.png", (20, 9)), f / "photos")[1],
        "Images have 2 sizes, from 8x8 to 20x9 pixels: all are resized to 8x8",
    ),
    "hidden files": (
        lambda f: with_file(photos(f), "cat/.DS_Store"),
        "1 hidden files are ignored.",
    ),
    "other files": (
        lambda f: with_file(clips(f), "no/notes.md"),
        "Files other than WAV files are ignored: no/notes.md.",
    ),
    "nested folders": (
        lambda f: (image(photos(f) / "cat" / "old" / "1.png"), f / "photos")[1],
        "1 images are in folders within those of the classes.",
    ),
    "empty class folder": (
        lambda f: ((photos(f) / "bird").mkdir(), f / "photos")[1],
        "Class folders without images are ignored: bird.",
    ),
    "sample rates": (
        lambda f: (clip(clips(f) / "no" / "other.wav", 800, 8000), f / "clips")[1],
        "Clips are resampled to 4,000 Hz",
    ),
    "stereo": (lambda f: clips(f, channels=2), "8 clips have several channels"),
    "clips of different length": (
        lambda f: (clip(clips(f) / "no" / "short.wav", 100), f / "clips")[1],
        "padded with silence",
    ),
    "series of different length": (
        lambda f: table(
            f,
            "@timeStamps false\n@classLabel true a b\n@data\n" + "1,2,3:a\n1,2:b\n" * 4,
            "s.ts",
        ),
        "Series have 2 to 3 steps",
    ),
    "missing steps": (
        lambda f: table(
            f, "@timeStamps false\n@classLabel true a b\n@data\n" + "1,?:a\n1,2:b\n" * 4, "s.ts"
        ),
        "4 series have missing values",
    ),
}


@pytest.mark.parametrize(("write", "sentence"), NOTICED.values(), ids=NOTICED)
def test_what_is_noticed_is_said_and_is_in_the_recipe(request, tmp_path, write, sentence):
    source = write(tmp_path)
    target = "y" if source.suffix == ".csv" else None
    memory = 100 if "10 GB" in request.node.name else PLENTY
    draft = draft_recipe(Request(source, target, memory=memory))
    assert sentence in " ".join(draft.findings)
    compile(draft.recipe, "recipe.py", "exec")
    assert " ".join(sentence.split()) in " ".join(draft.recipe.split())
    assert len(draft.recipe.splitlines()) < 120


def test_rows_that_are_not_in_the_order_of_time_are_sorted(tmp_path):
    lines = rows(lambda n: f"{n},2026-01-{30 - n:02d},{n % 5}", 30)
    draft = draft_recipe(Request(table(tmp_path, lines), task="forecast", memory=PLENTY))
    assert "The rows are not in the order of `c`: they are sorted by it." in draft.findings


def test_decimal_commas_are_read(tmp_path):
    path = table(tmp_path, rows(usual).replace(",", ";").replace(".", ","))
    draft = draft_recipe(Request(path, "y", memory=PLENTY))
    assert 'DECIMAL = ","' in draft.recipe
    assert any("numbers with decimal commas" in text for text in draft.findings)
    values = read_table(path, numbers=["x"], decimal=",")["x"]
    assert values[:3].round(1).tolist() == pytest.approx([0.0, 0.7, 1.4])


def test_a_guessed_task_is_said_with_the_option_that_decides_otherwise(tmp_path):
    path = table(tmp_path, rows(lambda n: f"{n * 7 % 30 / 10},a,{n / 3:.2f}"))
    draft = draft_recipe(Request(path, "y", memory=PLENTY))
    assert draft.task == "regression"
    assert "`--task classification` overrides this" in draft.guesses[0]


def test_an_existing_recipe_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, rows(usual))
    words = ["init", "data.csv", "--target", "y"]
    assert CliRunner().invoke(cli, words).exit_code == 0
    (tmp_path / "data.py").write_text("# edited")
    result = CliRunner().invoke(cli, words)
    assert str(result.exception).endswith("'data.py' exists. --overwrite replaces it")
    assert (tmp_path / "data.py").read_text() == "# edited"
    assert CliRunner().invoke(cli, [*words, "--overwrite"]).exit_code == 0
    assert "def build_model(hp):" in (tmp_path / "data.py").read_text()


@pytest.mark.parametrize(
    ("output", "message"),
    [("nothing/recipe.py", "a file that can be written"), ("recipe.txt", "ending in .py")],
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path, monkeypatch, output, message):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, rows(usual))
    (tmp_path / "nothing").write_text("a file")
    result = CliRunner().invoke(cli, ["init", "data.csv", "--target", "y", "-o", output])
    assert isinstance(result.exception, SourceError)
    assert message in str(result.exception)


def test_a_recipe_for_another_target_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, rows(usual))
    assert CliRunner().invoke(cli, ["init", "data.csv", "--target", "y"]).exit_code == 0
    result = CliRunner().invoke(cli, ["search", "data.csv", "--target", "x"])
    assert isinstance(result.exception, SourceError)
    assert "must be that of the existing recipe 'data.py'; got 'x'" in str(result.exception)


def test_options_of_data_are_refused_for_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.py").write_text("")
    result = CliRunner().invoke(cli, ["search", "recipe.py", "--target", "y"])
    assert result.exit_code == 2
    assert "must be combined with a table or a folder of data" in result.output


def test_a_parquet_file_has_the_types_of_a_table(tmp_path):
    text = sources.penguins(tmp_path / "penguins.csv").read_text()
    frame = pd.read_csv(io.StringIO(text), parse_dates=["measured"])
    frame.to_parquet(tmp_path / "penguins.parquet")
    drafts = [
        draft_recipe(Request(tmp_path / f"penguins.{ending}", "species", memory=PLENTY))
        for ending in ("csv", "parquet")
    ]
    assert drafts[0].findings == drafts[1].findings
    first, second = (draft.recipe.partition("TARGET = ")[2] for draft in drafts)
    assert first == second
