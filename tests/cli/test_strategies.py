"""`keras-nas search` with each strategy, and the options of strategies."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time

import click
import keras_tuner
import pytest
from click.testing import CliRunner

from keras_nas_plugin import Constraint
from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.cli.strategy import (
    Limit,
    OracleSettings,
    build_oracle,
    parse_objectives,
)
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.files import read_json
from keras_nas_plugin.oracles import STRATEGIES
from keras_nas_plugin.oracles.registry import STOCK
from tests.cli.conftest import ENDLESS, RECIPE
from tests.integration import forkserver
from tests.oracles.test_registry import MODULE, install

FAST = "--no-tracking --json --seed 0"
# Evolution, the default, is tested in test_search.py.
NAMES = ["bayesian", "grid", "halving", "hyperband"]
OPTIONS = {"hyperband": "--epochs 3", "halving": "--epochs 3 --max-trials 4 --source random"}


def records(folder, project="recipe"):
    paths = sorted((folder / "searches" / project).glob("trial_*/record.json"))
    return [read_json(path) for path in paths]


def values_of_trials(folder):
    return [record["values"] for record in records(folder)]


def command(name):
    options = OPTIONS.get(name, "--epochs 1 --max-trials 4")
    return f"search recipe.py:Endless --strategy {name} {options} --deterministic {FAST}"


@pytest.fixture(scope="module")
def uninterrupted(server, tmp_path_factory):
    """Folders of uninterrupted searches, by strategy."""
    searches = {}

    def run(name):
        if name not in searches:
            folder = tmp_path_factory.mktemp(name)
            (folder / "recipe.py").write_text(ENDLESS, encoding="utf-8")
            target = "tests.integration.forkserver:command_line"
            searches[name] = folder, server.run(target, cwd=folder, words=command(name).split())
        folder, process = searches[name]
        assert process.returncode == 0, process.err
        return folder, process

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_search_completes_with_each_strategy(uninterrupted, name):
    folder, process = uninterrupted(name)
    result = json.loads(process.out)
    finished = records(folder)
    table = STRATEGIES | STOCK
    assert result["strategy"] == table[name]
    assert result["trials"] == {"finished": len(finished), "failed": 0}
    assert "Traceback" not in process.err
    promoted = [record for record in finished if "tuner/trial_id" in record["values"]]
    if name in ("bayesian", "grid"):
        assert len(finished) == 4 and not promoted
        assert result["best"]["score"] == min(record["score"] for record in finished)
    else:
        assert promoted and len(finished) > 4
        assert {record["values"]["tuner/epochs"] for record in finished} == {1, 3}
        # A promoted trial continues at the epoch at which its parent stopped.
        assert {record["values"]["tuner/initial_epoch"] for record in promoted} == {1}
    if name == "hyperband":
        assert result["max_trials"] is None
        assert "for val_loss (min), trials, on" in process.err
    if name in ("hyperband", "halving"):
        # The number of trials is not known in advance.
        assert f"trial {finished[-1]['trial_id']} ({len(finished)}):" in process.err
        assert " left" not in process.err.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_search_resumes_as_if_it_had_not_been_killed(
    uninterrupted, name, nas, write, tmp_path
):
    write(ENDLESS)
    (tmp_path / "endless").touch()
    child = nas(command(name), wait=False)
    deadline = time.monotonic() + 120
    while not (tmp_path / "training").exists():
        assert child.poll() is None and time.monotonic() < deadline, child.err
        time.sleep(0.02)
    child.signal(signal.SIGKILL)
    child.wait()
    assert len(records(tmp_path)) == 1
    (tmp_path / "endless").unlink()
    resumed = nas(command(name))
    assert resumed.returncode == 0, resumed.err
    folder, process = uninterrupted(name)
    assert values_of_trials(tmp_path) == values_of_trials(folder)
    first, second = json.loads(process.out), json.loads(resumed.out)
    assert second["best"]["trial_id"] == first["best"]["trial_id"]
    assert second["trials"] == first["trials"]


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_search_resumes_with_more_trials(uninterrupted, name, nas, tmp_path):
    folder, _ = uninterrupted(name)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = records(tmp_path)
    extension = "" if name == "hyperband" else "--max-trials 6"
    process = nas(command(name), extension)
    assert process.returncode == 0, process.err
    after = records(tmp_path)
    by_id = {record["trial_id"]: record for record in after}
    assert [by_id[record["trial_id"]] for record in before] == before
    if name == "hyperband":
        assert after == before, "all brackets are complete"
    elif name == "halving":
        assert sum("tuner/trial_id" not in record["values"] for record in after) == 6
    else:
        assert len(after) == 6
        assert len({json.dumps(record["values"]) for record in after}) == 6


def test_a_search_cannot_be_resumed_with_another_strategy(uninterrupted, nas, tmp_path):
    folder, _ = uninterrupted("grid")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    process = nas(command("bayesian"))
    assert process.returncode == 1 and "Traceback" not in process.err
    assert "the saved search, GridSearchOracle for val_loss (min)" in process.err
    assert nas(command("bayesian"), "--overwrite").returncode == 0


# ------------------------------------------------------------------ names and wrong usage


def settings(**changes):
    """The options of an oracle."""
    fields = {
        "strategy": "evolution",
        "source": None,
        "constraints": (),
        "warm_start": (),
        "max_trials": 50,
        "max_trials_given": False,
        "seed": 0,
        "epochs": 1,
        "tracking_uri": None,
        "overwrite": False,
    }
    return OracleSettings(**{**fields, **changes})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "grid", "source": "random"}, r"`--source` must be .* it \(halving\); got"),
        (
            {"strategy": "grid", "constraints": (Constraint("x", max=1),)},
            "`--constraint` must be used with",
        ),
        (
            {"strategy": "bayesian", "warm_start": ("x",)},
            r"`--warm-start` must be .* \(auto, differentiable, evolution, ",
        ),
        ({"strategy": "hyperband", "max_trials_given": True}, "trials follows from --epochs"),
        ({"warm_start": ("nowhere",)}, "`--warm-start nowhere`: `source` must be the folder"),
        (
            {"warm_start": ("mlflow:x",), "tracking_uri": "sqlite:///none.db"},
            "`--warm-start mlflow:x`: `tracking_uri` must be an existing store",
        ),
    ],
)
def test_options_that_a_strategy_does_not_accept_are_wrong_usage(tmp_path, options, message):
    objective = keras_tuner.Objective("val_loss", "min")
    with pytest.raises(click.UsageError, match=message):
        build_oracle(settings(**options), objective, tmp_path)


def test_wrong_usage_ends_with_2_before_anything_is_written(write, nas, tmp_path):
    write()
    for words, message in (
        (
            "--strategy hyperband --max-trials 3",
            "`--max-trials` must be used with a strategy that accepts it",
        ),
        ("--warm-start nowhere", "`--warm-start nowhere`: `source` must be the folder of"),
    ):
        process = nas("search recipe.py --epochs 1", words)
        assert process.returncode == 2, process.err
        assert message in " ".join(process.err.split()) and "Traceback" not in process.err
    assert not (tmp_path / "searches").exists()


@pytest.mark.parametrize("option", ["--strategy", "--source"])
def test_an_unknown_strategy_lists_the_installed_ones(option):
    result = CliRunner().invoke(cli, ["search", "x.py", option, "luck"])
    assert result.exit_code == 2
    assert (
        "must be one of auto, bayesian, differentiable, evolution, gradient-proxy, grid"
        in " ".join(result.output.split())
    )


def test_oracles_get_the_options_that_they_accept(tmp_path):
    objective = keras_tuner.Objective("val_loss", "min")
    options = {"strategy": "halving", "source": "evolution", "epochs": 9, "max_trials": 30}
    oracle = build_oracle(settings(**options), objective, tmp_path)
    assert (oracle.max_epochs, oracle.max_trials, oracle.seed) == (9, 30, 0)
    assert type(oracle.strategy).__name__ == "RegularizedEvolution"
    limits = (Constraint("x", max=1),)
    oracle = build_oracle(settings(constraints=limits), objective, tmp_path)
    assert oracle.constraints == limits
    assert build_oracle(settings(strategy="hyperband"), objective, tmp_path).max_trials is None


OBJECTIVES = [
    ((), None, "val_accuracy", [("val_accuracy", "max")]),
    (
        (),
        None,
        ["val_loss", keras_tuner.Objective("a", "max")],
        [("val_loss", "min"), ("a", "max")],
    ),
    ((), "max", "val_loss", [("val_loss", "max")]),
    (("val_accuracy",), None, "val_loss", [("val_accuracy", "max")]),
    (("val_accuracy:min",), None, "val_loss", [("val_accuracy", "min")]),
    (("top:5",), "max", "val_loss", [("top:5", "max")]),
    (("top:5:min",), None, "val_loss", [("top:5", "min")]),
    (("mine",), "max", "val_loss", [("mine", "max")]),
    (("val_loss", "size:max"), None, "x", [("val_loss", "min"), ("size", "max")]),
]


@pytest.mark.parametrize(("names", "direction", "default", "expected"), OBJECTIVES)
def test_objectives_are_parsed_with_their_directions(names, direction, default, expected):
    objectives = parse_objectives(names, direction, default)
    objectives = objectives if isinstance(objectives, list) else [objectives]
    assert [(objective.name, objective.direction) for objective in objectives] == expected


def test_objectives_without_a_certain_direction_are_errors():
    with pytest.raises(ObjectiveError, match="must have a direction, .* the name 'mine'"):
        parse_objectives(("mine",), None, "val_loss")
    with pytest.raises(click.UsageError, match="must come with a single objective; got 2"):
        parse_objectives(("a:min", "b:max"), "min", "val_loss")
    with pytest.raises(click.UsageError, match="must name each metric once"):
        parse_objectives(("val_loss", "val_loss:min"), None, "x")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("val_loss<=0.5", Constraint("val_loss", max=0.5)),
        ("accuracy>=0.9", Constraint("accuracy", min=0.9)),
        ("parameters<=200k", Constraint("parameters", max=200_000)),
        ("flops <= 1.5M", Constraint("flops", max=1_500_000)),
        ("flops<=2G", Constraint("flops", max=2_000_000_000)),
        ("bytes<=3K", Constraint("bytes", max=3_000)),
        ("delta>=-1e-3", Constraint("delta", min=-0.001)),
        ("params<=200k", Constraint("params", max=200_000)),
        ("latency<=10ms", Constraint("latency", max=10)),
        ("latency_p95_ms <= 0.5s", Constraint("latency_p95_ms", max=500)),
        ("memory<=1.5MB", Constraint("memory", max=1_500_000)),
        ("peak_memory_bytes<=64k", Constraint("peak_memory_bytes", max=64_000)),
        ("energy_estimate_mj<=20uJ", Constraint("energy_estimate_mj", max=0.02)),
        ("top-5 (%)>=50", Constraint("top-5 (%)", min=50)),
    ],
)
def test_text_is_parsed_into_a_constraint(text, limit):
    assert Limit().convert(text, None, None) == limit


@pytest.mark.parametrize(
    "text",
    ["loss", "<=3", "loss<=", "loss<=k", "loss<=3x", "loss<=nan", "loss<=inf", "loss=3"]
    + ["loss<=3ms", "params<=10ms", "latency<=3MB", "flops<=1GB"],
)
def test_text_that_is_not_a_limit_is_wrong_usage(text):
    with pytest.raises(click.BadParameter, match="must be METRIC<=NUMBER"):
        Limit().convert(text, None, None)


# ------------------------------------------------------------------ other distributions


def test_help_shows_strategies_of_other_distributions(tmp_path, monkeypatch):
    install(tmp_path, "nas-of-others", {"of-others": "no_such_module:Oracle"})
    assert "of-others" not in CliRunner().invoke(cli, ["search", "--help"]).output
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(cli, ["search", "--help"]).output
    names = "".join(result.split())
    assert "[auto|bayesian|differentiable|evolution|" in names and "|of-others|" in names


def command_line_with_path(words, path):
    """`keras-nas` in a process that finds the distributions of one more folder."""
    sys.path.insert(0, path)
    return forkserver.command_line(words)


def test_a_strategy_of_another_distribution_searches(server, write, tmp_path):
    write()
    (tmp_path / "third_party.py").write_text(MODULE, encoding="utf-8")
    install(tmp_path, "nas-of-others", {"mine": "third_party:Mine", "gone": "third_party:gone"})
    words = "search recipe.py --max-trials 2 --epochs 1 --no-tracking --json --strategy".split()

    def run(name):
        target = "tests.cli.test_strategies:command_line_with_path"
        return server.run(target, cwd=tmp_path, words=[*words, name], path=str(tmp_path))

    process = run("mine")
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["strategy"] == "Mine" and result["trials"] == {"finished": 2, "failed": 0}
    broken = run("gone")
    assert broken.returncode == 1 and "Traceback" not in broken.err
    assert "strategy 'gone' of distribution 'nas-of-others'" in broken.err


# ------------------------------------------------------------------ objectives and limits


def test_several_objectives_are_saved_and_their_signed_sum_is_the_score(write, nas, tmp_path):
    write()
    options = "--objective val_accuracy --objective val_loss:min --max-trials 2 --epochs 1"
    process = nas("search recipe.py", options, FAST)
    assert process.returncode == 0, process.err
    state = read_json(tmp_path / "searches/recipe/oracle.json")
    assert state["search"]["objectives"] == [["val_accuracy", "max"], ["val_loss", "min"]]
    for record in records(tmp_path):
        metrics = record["metrics"]
        # Evolution optimises a single number: the signed sum.
        assert record["score"] == pytest.approx(metrics["val_loss"] - metrics["val_accuracy"])


# Reports the number of units as a metric; the more units, the better the score.
SIZED = """
class Sized(keras_tuner.HyperModel):
    def build(self, hp):
        return build_model(hp)

    def fit(self, hp, model, *args, **options):
        return {"val_loss": 1.0 / hp.get("units"), "units": float(hp.get("units"))}
"""


def test_the_best_trial_satisfies_the_constraints(write, nas, tmp_path):
    write(RECIPE + SIZED)
    limits = "--constraint units<=0.03k --constraint units>=5"
    process = nas(
        "search recipe.py:Sized --max-trials 8 --epochs 1 --strategy random", FAST, limits
    )
    assert process.returncode == 0, process.err
    units = [record["values"]["units"] for record in records(tmp_path)]
    allowed = [number for number in units if 5 <= number <= 30]
    assert allowed and len(allowed) < len(units) == 8, "the seed gives some of both"
    result = json.loads(process.out)
    assert result["best"]["values"]["units"] == max(allowed)
    assert result["trials"] == {"finished": 8, "failed": 0}
    lines = [line for line in process.err.splitlines() if line.startswith("trial ")]
    broken = [line for line in lines if "(violates a constraint)" in line]
    assert len(lines) == 8 and len(broken) == 8 - len(allowed)
    assert [line for line in lines if "(best so far)" in line][-1].split()[1] == (
        result["best"]["trial_id"]
    )


def test_there_is_no_best_trial_when_none_satisfies_the_constraints(write, nas):
    write(RECIPE + SIZED)
    process = nas(
        "search recipe.py:Sized --max-trials 2 --epochs 1", FAST, "--constraint units<=1"
    )
    assert process.returncode == 3, process.err
    assert json.loads(process.out)["best"] is None


# ------------------------------------------------------------------ warm start


@pytest.fixture
def sized(write, nas, tmp_path, new_store):
    """The MLflow store of a finished search, which is also in the folder `old`."""
    write(RECIPE + SIZED)
    store = new_store(tmp_path)
    options = "--project-name old --experiment old --strategy random --seed 0 --json"
    words = f"search recipe.py:Sized --max-trials 6 --epochs 1 --tracking-uri {store}"
    process = nas(words, options)
    assert process.returncode == 0, process.err
    return store


NEXT = "search recipe.py:Sized --epochs 1 --project-name next --experiment next --seed 1 --json"


@pytest.mark.parametrize("source", ["searches/old", "mlflow:old"])
def test_a_warm_started_search_resumes_without_its_source(sized, nas, tmp_path, source):
    words = f"{NEXT} --warm-start {source} --tracking-uri {sized}"
    process = nas(words, "--max-trials 3")
    assert process.returncode == 0, process.err
    assert "warm start: 6 earlier configurations used" in process.err
    source_values = [record["values"] for record in records(tmp_path, "old")]
    new_values = [record["values"] for record in records(tmp_path, "next")]
    assert len(new_values) == 3 and not [
        values for values in new_values if values in source_values
    ]
    # Evolution with three trials has a population of four: the best of the source's trials.
    stored = read_json(tmp_path / "searches/next/earlier.json")["earlier"]
    assert [units for _, units, _ in stored] == sorted(
        source_values, key=lambda values: values["units"]
    )
    shutil.rmtree(tmp_path / "searches/old")
    if source.startswith("mlflow"):
        words = words.replace(sized, "sqlite:///none.db") + " --no-tracking"
    resumed = nas(words, "--max-trials 5")
    assert resumed.returncode == 0, resumed.err
    assert "resumes with 6 earlier configurations, as it began" not in resumed.err
    resumed_values = [record["values"] for record in records(tmp_path, "next")]
    assert resumed_values[:3] == new_values and len(resumed_values) == 5
    assert not [values for values in resumed_values if values in source_values]
    assert not (tmp_path / "none.db").exists()


def test_constraints_apply_to_the_trials_of_several_warm_start_sources(sized, nas, tmp_path):
    words = f"{NEXT} --warm-start searches/old --warm-start mlflow:old --tracking-uri {sized}"
    process = nas(words, "--max-trials 1 --constraint units<=30")
    assert process.returncode == 0, process.err
    source_units = [record["values"]["units"] for record in records(tmp_path, "old")]
    report = read_json(tmp_path / "searches/next/earlier.json")["report"]
    broken = sum(units > 30 for units in source_units)
    assert broken and (report["used"], report["repeated"], report["failed"]) == (6, 6, broken)


def test_a_warm_start_with_an_objective_that_the_source_lacks_is_wrong_usage(sized, nas):
    words = f"{NEXT} --warm-start searches/old --tracking-uri {sized} --max-trials 1"
    process = nas(words, "--objective val_accuracy")
    assert process.returncode == 2, process.err
    message = " ".join(process.err.split())
    assert "which has flops, parameters, peak_memory_bytes, " in message
    assert "got 'val_accuracy'" in message
    assert "units, val_loss" in message
    process = nas(words, "--objective val_loss:max")
    assert process.returncode == 2 and "must be 'min', as in" in " ".join(process.err.split())
