"""Help costs no second: it loads no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from keras_nas_plugin.cli.main import cli

SEARCH_OPTIONS = """--objective --direction --executions-per-trial --batch-size --directory
    --project-name --resume --overwrite --budget --precision --distribute --json --strategy
    --max-trials --epochs --tracking-uri --experiment --register --seed --deterministic
    --no-tracking --max-model-size --alias --data""".split()


COMMANDS = sorted(cli.commands)


@pytest.mark.parametrize("words", ["--help", *(f"{name} --help" for name in COMMANDS)])
def test_help_loads_no_framework(words):
    code = (
        "import sys; from keras_nas_plugin.cli.main import main\n"
        f"try: main({words.split()!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'numpy', 'jax', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Usage: keras-nas")
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name):
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    assert f"Example: keras-nas {name} " in " ".join(shown.split())


def test_search_has_every_option():
    shown = CliRunner().invoke(cli, ["search", "--help"]).output
    assert [option for option in SEARCH_OPTIONS if option not in shown] == []


def test_the_exit_codes_are_documented():
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert [code for code in ("0 ", "1 ", "2 ", "3 ", "130 ", "143") if code not in shown] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search", "Missing argument"),
        ("search x.py --strategy luck", "--strategy"),
        ("search x.py --max-trials 0", "--max-trials"),
        ("search x.py --epochs many", "--epochs"),
        ("search x.py --budget soon", "needs a duration such as 90s"),
        ("search x.py --budget 0", "more than 0 seconds"),
        ("search x.py --seed -1", "--seed"),
        ("search x.py --no-tracking --register name", "`--register` needs MLflow"),
        ("trials --directory nowhere", "`--directory` needs a folder with searches"),
        ("best --project-name nothing", "`--project-name` needs a search"),
        ("retrain --directory nowhere", "`--directory` needs a folder with searches"),
        ("retrain --seeds 0", "--seeds"),
        ("retrain --epochs 0", "--epochs"),
        ("retrain --hold-out much", "'much' is not a valid float"),
        ("register", "Missing argument 'NAME'"),
        ("register name --project-name nothing", "`--project-name` needs a search"),
        ("unknown", "No such command"),
    ],
)
def test_wrong_usage_exits_with_2(words, said, tmp_path, monkeypatch, capsys):
    from keras_nas_plugin.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words.split())
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert said in shown.err and "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800)],
)
def test_durations(text, seconds):
    from keras_nas_plugin.cli.options import Duration

    assert Duration().convert(text, None, None) == seconds
