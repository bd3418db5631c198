"""`--help` takes less than a second: it loads no framework. Wrong usage exits with 2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import get_args

import pytest
from click.testing import CliRunner

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.registry import PromotionPolicy
from keras_nas_plugin.registry.gates.base import Method, MetricName
from keras_nas_plugin.registry.gates.comparison import METHODS
from keras_nas_plugin.registry.metrics import METRICS

SEARCH_OPTIONS = """--objective --direction --executions-per-trial --batch-size --directory
    --project-name --resume --overwrite --budget --precision --distribute --json --strategy
    --max-trials --epochs --tracking-uri --experiment --register --seed --deterministic
    --no-tracking --max-model-size --alias --data""".split()


COMMANDS = sorted(cli.commands)


HELP = """
import contextlib, io, json, sys
from keras_nas_plugin.cli.main import main

frameworks = {"tensorflow", "keras", "keras_tuner", "mlflow", "numpy", "jax", "torch"}
results = {}
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            main(words.split())
        except SystemExit as end:
            code = end.code
    results[words] = code, shown.getvalue(), sorted(frameworks & set(sys.modules))
print(json.dumps(results))
"""
REQUESTS = ["--help", *(f"{name} --help" for name in COMMANDS)]


@pytest.fixture(scope="module")
def help_outputs():
    """Exit code, output and imported frameworks of each help request, in one fresh process."""
    words = [sys.executable, "-c", HELP, json.dumps(REQUESTS)]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("words", REQUESTS)
def test_help_loads_no_framework(help_outputs, words):
    code, output, loaded = help_outputs[words]
    assert code == 0 and output.startswith("Usage: keras-nas")
    assert loaded == []


POLICY_OPTIONS = {
    "--alpha": "alpha",
    "--min-improvement": "min_improvement",
    "--method": "method",
    "--resamples": "resamples",
    "--seed": "seed",
}


@pytest.mark.parametrize("option", POLICY_OPTIONS)
def test_help_shows_the_defaults_of_the_policy(option):
    output = CliRunner().invoke(cli, ["promote", "--help"]).output
    _, _, text = " ".join(output.split()).partition(f" {option} ")
    default = getattr(PromotionPolicy, POLICY_OPTIONS[option])
    assert re.search(r"default: ([^;\]]+)", text).group(1) == str(default)


def test_promote_names_every_metric_and_method_of_the_registry():
    assert tuple(METRICS) == get_args(MetricName)
    assert get_args(Method) == METHODS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name):
    output = CliRunner().invoke(cli, [name, "--help"]).output
    assert f"Example: keras-nas {name} " in " ".join(output.split())


def test_help_of_search_names_every_option():
    output = CliRunner().invoke(cli, ["search", "--help"]).output
    assert [option for option in SEARCH_OPTIONS if option not in output] == []


def test_the_exit_codes_are_documented():
    output = CliRunner().invoke(cli, ["--help"]).output
    assert [code for code in ("0 ", "1 ", "2 ", "3 ", "130 ", "143") if code not in output] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search", "Missing argument"),
        ("search x.py --strategy luck", "--strategy"),
        ("search x.py --max-trials 0", "--max-trials"),
        ("search x.py --epochs many", "--epochs"),
        ("search x.py --budget soon", "must be a duration such as 90s"),
        ("search x.py --budget 0", "more than 0 seconds"),
        ("search x.py --seed -1", "--seed"),
        ("search x.py --no-tracking --register name", "`--register` must not be combined"),
        ("trials --directory nowhere", "`--directory` must be a folder with searches"),
        ("best --project-name nothing", "`--project-name` must be a search"),
        ("retrain --directory nowhere", "`--directory` must be a folder with searches"),
        ("retrain --seeds 0", "--seeds"),
        ("retrain --epochs 0", "--epochs"),
        ("retrain --hold-out much", "'much' is not a valid float"),
        ("register", "Missing argument 'NAME'"),
        ("register name --project-name nothing", "`--project-name` must be a search"),
        ("unknown", "No such command"),
    ],
)
def test_wrong_usage_exits_with_2(words, message, tmp_path, monkeypatch, capsys):
    from keras_nas_plugin.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words.split())
    output = capsys.readouterr()
    assert end.value.code == 2
    assert message in output.err and "Traceback" not in output.err
    assert output.out == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800)],
)
def test_a_duration_is_parsed_into_seconds(text, seconds):
    from keras_nas_plugin.cli.options import Duration

    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("keras-nas pro", "plain,promote"), ("keras-nas search --on-ch", "plain,--on-change")],
)
def test_a_shell_completes_subcommands_and_options(typed, completed):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    program = "import sys; from keras_nas_plugin.cli.main import main; main(); sys.exit(1)"
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'keras-nas'; {program}"],
        env={**os.environ, **words, "_KERAS_NAS_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.splitlines() == [completed]
