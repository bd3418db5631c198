"""Every strategy by name, and the options that belong to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import click
import keras_tuner
import pytest
from click.testing import CliRunner

from keras_nas_plugin import Constraint
from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.cli.strategy import Limit, build_oracle, parse_objectives
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.files import read_json
from keras_nas_plugin.oracles import STRATEGIES
from keras_nas_plugin.oracles.registry import STOCK
from tests.cli.conftest import ENDLESS, RECIPE
from tests.oracles.test_registry import MODULE, install

FAST = "--no-tracking --json --seed 0"
# The first is the default, and looked at elsewhere.
NAMES = ["bayesian", "grid", "halving", "hyperband"]
OPTIONS = {"hyperband": "--epochs 3", "halving": "--epochs 3 --max-trials 4 --source random"}


def records(folder, project="recipe"):
    paths = sorted((folder / "searches" / project).glob("trial_*/record.json"))
    return [read_json(path) for path in paths]


def values(folder):
    return [record["values"] for record in records(folder)]


def command(name):
    options = OPTIONS.get(name, "--epochs 1 --max-trials 4")
    return f"search recipe.py:Endless --strategy {name} {options} --deterministic {FAST}"


@pytest.fixture(scope="module")
def straight(server, tmp_path_factory):
    """Folders of uninterrupted searches, by strategy."""
    done = {}

    def run(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            (folder / "recipe.py").write_text(ENDLESS, encoding="utf-8")
            target = "tests.integration.forkserver:command_line"
            done[name] = folder, server.run(target, cwd=folder, words=command(name).split())
        folder, process = done[name]
        assert process.returncode == 0, process.err
        return folder, process

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_search_runs_to_its_end(straight, name):
    folder, process = straight(name)
    result = json.loads(process.out)
    done = records(folder)
    table = STRATEGIES | STOCK
    assert result["strategy"] == table[name]
    assert result["trials"] == {"finished": len(done), "failed": 0}
    assert "Traceback" not in process.err
    promoted = [record for record in done if "tuner/trial_id" in record["values"]]
    if name in ("bayesian", "grid"):
        assert len(done) == 4 and not promoted
        assert result["best"]["score"] == min(record["score"] for record in done)
    else:
        assert promoted and len(done) > 4
        assert {record["values"]["tuner/epochs"] for record in done} == {1, 3}
        # Who was trained further begins where the other ended.
        assert {record["values"]["tuner/initial_epoch"] for record in promoted} == {1}
    if name == "hyperband":
        assert result["max_trials"] is None
        assert "for val_loss (min), trials, on" in process.err
    if name in ("hyperband", "halving"):
        # Nobody knows how many trials there will be.
        assert f"trial {done[-1]['trial_id']} ({len(done)}):" in process.err
        assert " left" not in process.err.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_search_that_was_killed_goes_on_as_it_would_have(straight, name, nas, write, tmp_path):
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
    folder, process = straight(name)
    assert values(tmp_path) == values(folder)
    first, second = json.loads(process.out), json.loads(resumed.out)
    assert second["best"]["trial_id"] == first["best"]["trial_id"]
    assert second["trials"] == first["trials"]


@pytest.mark.parametrize("name", NAMES)
def test_a_search_that_ended_goes_on_with_more_trials(straight, name, nas, tmp_path):
    folder, _ = straight(name)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = records(tmp_path)
    more = "" if name == "hyperband" else "--max-trials 6"
    done = nas(command(name), more)
    assert done.returncode == 0, done.err
    after = records(tmp_path)
    kept = {record["trial_id"]: record for record in after}
    assert [kept[record["trial_id"]] for record in before] == before
    if name == "hyperband":
        assert after == before, "all its brackets are done"
    elif name == "halving":
        assert sum("tuner/trial_id" not in record["values"] for record in after) == 6
    else:
        assert len(after) == 6
        assert len({json.dumps(record["values"]) for record in after}) == 6


def test_another_strategy_does_not_go_on_with_the_files_of_one(straight, nas, tmp_path):
    folder, _ = straight("grid")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    done = nas(command("bayesian"))
    assert done.returncode == 1 and "Traceback" not in done.err
    assert "the saved search is GridSearchOracle for val_loss (min)" in done.err
    assert nas(command("bayesian"), "--overwrite").returncode == 0


# ------------------------------------------------------------------ names and wrong usage


def settings(**changes):
    """What the command was told, as far as an oracle needs it."""
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
    return types.SimpleNamespace(**{**fields, **changes})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "grid", "source": "random"}, "`--source` needs a .* it: halving; received"),
        ({"strategy": "grid", "constraints": (Constraint("x", max=1),)}, "`--constraint` needs"),
        ({"strategy": "bayesian", "warm_start": ("x",)}, "`--warm-start` needs .*: evolution, "),
        ({"strategy": "hyperband", "max_trials_given": True}, "trials follows from --epochs"),
        ({"warm_start": ("nowhere",)}, "`--warm-start nowhere`: `source` needs the folder"),
        (
            {"warm_start": ("mlflow:x",), "tracking_uri": "sqlite:///none.db"},
            "`--warm-start mlflow:x`: `tracking_uri` needs a store that exists",
        ),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(tmp_path, given, said):
    objective = keras_tuner.Objective("val_loss", "min")
    with pytest.raises(click.UsageError, match=said):
        build_oracle(settings(**given), objective, tmp_path)


def test_wrong_usage_ends_with_2_before_anything_is_written(write, nas, tmp_path):
    write()
    for words, said in (
        ("--strategy hyperband --max-trials 3", "`--max-trials` needs a strategy that takes it"),
        ("--warm-start nowhere", "`--warm-start nowhere`: `source` needs the folder of a search"),
    ):
        done = nas("search recipe.py --epochs 1", words)
        assert done.returncode == 2, done.err
        assert said in " ".join(done.err.split()) and "Traceback" not in done.err
    assert not (tmp_path / "searches").exists()


@pytest.mark.parametrize("option", ["--strategy", "--source"])
def test_an_unknown_name_lists_those_that_are_known(option):
    shown = CliRunner().invoke(cli, ["search", "x.py", option, "luck"])
    assert shown.exit_code == 2
    assert "needs one of bayesian, evolution, gradient-proxy, grid" in " ".join(
        shown.output.split()
    )


def test_strategies_get_what_they_take(tmp_path):
    objective = keras_tuner.Objective("val_loss", "min")
    given = {"strategy": "halving", "source": "evolution", "epochs": 9, "max_trials": 30}
    oracle = build_oracle(settings(**given), objective, tmp_path)
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


@pytest.mark.parametrize(("given", "direction", "default", "expected"), OBJECTIVES)
def test_objectives(given, direction, default, expected):
    found = parse_objectives(given, direction, default)
    found = found if isinstance(found, list) else [found]
    assert [(one.name, one.direction) for one in found] == expected


def test_objectives_that_are_not_certain_are_refused():
    with pytest.raises(ObjectiveError, match="needs a direction for 'mine'"):
        parse_objectives(("mine",), None, "val_loss")
    with pytest.raises(click.UsageError, match="needs a single objective.*received 2"):
        parse_objectives(("a:min", "b:max"), "min", "val_loss")
    with pytest.raises(click.UsageError, match="needs each metric once"):
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
def test_limits(text, limit):
    assert Limit().convert(text, None, None) == limit


@pytest.mark.parametrize(
    "text",
    ["loss", "<=3", "loss<=", "loss<=k", "loss<=3x", "loss<=nan", "loss<=inf", "loss=3"]
    + ["loss<=3ms", "params<=10ms", "latency<=3MB", "flops<=1GB"],
)
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(click.BadParameter, match="needs METRIC<=NUMBER"):
        Limit().convert(text, None, None)


# ------------------------------------------------------------------ other distributions


def test_help_shows_strategies_of_other_distributions(tmp_path, monkeypatch):
    install(tmp_path, "nas-of-others", {"of-others": "no_such_module:Oracle"})
    assert "of-others" not in CliRunner().invoke(cli, ["search", "--help"]).output
    monkeypatch.syspath_prepend(tmp_path)
    shown = CliRunner().invoke(cli, ["search", "--help"]).output
    names = "".join(shown.split())
    assert "[bayesian|evolution|" in names and "|of-others|" in names


def test_a_strategy_of_another_distribution_searches(write, tmp_path):
    write()
    (tmp_path / "third_party.py").write_text(MODULE, encoding="utf-8")
    install(tmp_path, "nas-of-others", {"mine": "third_party:Mine", "gone": "third_party:gone"})
    script = Path(sys.executable).with_name("keras-nas")
    words = "search recipe.py --max-trials 2 --epochs 1 --no-tracking --json --strategy".split()

    def run(name):
        return subprocess.run(
            [script, *words, name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=180,
        )

    done = run("mine")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["strategy"] == "Mine" and result["trials"] == {"finished": 2, "failed": 0}
    broken = run("gone")
    assert broken.returncode == 1 and "Traceback" not in broken.stderr
    assert "strategy 'gone' of distribution 'nas-of-others'" in broken.stderr


# ------------------------------------------------------------------ objectives and limits


def test_several_objectives(write, nas, tmp_path):
    write()
    options = "--objective val_accuracy --objective val_loss:min --max-trials 2 --epochs 1"
    done = nas("search recipe.py", options, FAST)
    assert done.returncode == 0, done.err
    state = read_json(tmp_path / "searches/recipe/oracle.json")
    assert state["search"]["objectives"] == [["val_accuracy", "max"], ["val_loss", "min"]]
    for record in records(tmp_path):
        metrics = record["metrics"]
        # Evolution searches for one number: the signed sum.
        assert record["score"] == pytest.approx(metrics["val_loss"] - metrics["val_accuracy"])


# Reports how many units a model has, and is the better the more there are.
SIZED = """
class Sized(keras_tuner.HyperModel):
    def build(self, hp):
        return build_model(hp)

    def fit(self, hp, model, *args, **options):
        return {"val_loss": 1.0 / hp.get("units"), "units": float(hp.get("units"))}
"""


def test_the_best_trial_keeps_the_constraints(write, nas, tmp_path):
    write(RECIPE + SIZED)
    limits = "--constraint units<=0.03k --constraint units>=5"
    done = nas("search recipe.py:Sized --max-trials 8 --epochs 1 --strategy random", FAST, limits)
    assert done.returncode == 0, done.err
    units = [record["values"]["units"] for record in records(tmp_path)]
    allowed = [number for number in units if 5 <= number <= 30]
    assert allowed and len(allowed) < len(units) == 8, "the seed gives some of both"
    result = json.loads(done.out)
    assert result["best"]["values"]["units"] == max(allowed)
    assert result["trials"] == {"finished": 8, "failed": 0}
    lines = [line for line in done.err.splitlines() if line.startswith("trial ")]
    broken = [line for line in lines if "(breaks a constraint)" in line]
    assert len(lines) == 8 and len(broken) == 8 - len(allowed)
    assert [line for line in lines if "(best so far)" in line][-1].split()[1] == (
        result["best"]["trial_id"]
    )


def test_without_a_trial_that_keeps_them_there_is_no_best(write, nas):
    write(RECIPE + SIZED)
    done = nas("search recipe.py:Sized --max-trials 2 --epochs 1", FAST, "--constraint units<=1")
    assert done.returncode == 3, done.err
    assert json.loads(done.out)["best"] is None


# ------------------------------------------------------------------ warm start


@pytest.fixture
def sized(write, nas, tmp_path, new_store):
    """A finished search, in a folder `old` and in an MLflow store; the store."""
    write(RECIPE + SIZED)
    store = new_store(tmp_path)
    old = "--project-name old --experiment old --strategy random --seed 0 --json"
    words = f"search recipe.py:Sized --max-trials 6 --epochs 1 --tracking-uri {store}"
    done = nas(words, old)
    assert done.returncode == 0, done.err
    return store


NEXT = "search recipe.py:Sized --epochs 1 --project-name next --experiment next --seed 1 --json"


@pytest.mark.parametrize("source", ["searches/old", "mlflow:old"])
def test_a_search_learns_from_another_and_goes_on_without_it(sized, nas, tmp_path, source):
    words = f"{NEXT} --warm-start {source} --tracking-uri {sized}"
    done = nas(words, "--max-trials 3")
    assert done.returncode == 0, done.err
    assert "warm start: 6 earlier configurations used" in done.err
    old = [record["values"] for record in records(tmp_path, "old")]
    new = [record["values"] for record in records(tmp_path, "next")]
    assert len(new) == 3 and not [one for one in new if one in old]
    # Evolution with three trials has a population of four: the best of the earlier ones.
    earlier = read_json(tmp_path / "searches/next/earlier.json")["earlier"]
    assert [units for _, units, _ in earlier] == sorted(old, key=lambda one: one["units"])
    shutil.rmtree(tmp_path / "searches/old")
    if source.startswith("mlflow"):
        words = words.replace(sized, "sqlite:///none.db") + " --no-tracking"
    more = nas(words, "--max-trials 5")
    assert more.returncode == 0, more.err
    assert "goes on with the 6 earlier configurations it began with" not in more.err
    again = [record["values"] for record in records(tmp_path, "next")]
    assert again[:3] == new and len(again) == 5
    assert not [one for one in again if one in old]
    assert not (tmp_path / "none.db").exists()


def test_sources_add_up_and_limits_count_for_them(sized, nas, tmp_path):
    words = f"{NEXT} --warm-start searches/old --warm-start mlflow:old --tracking-uri {sized}"
    done = nas(words, "--max-trials 1 --constraint units<=30")
    assert done.returncode == 0, done.err
    old = [record["values"]["units"] for record in records(tmp_path, "old")]
    report = read_json(tmp_path / "searches/next/earlier.json")["report"]
    broken = sum(units > 30 for units in old)
    assert broken and (report["used"], report["repeated"], report["failed"]) == (6, 6, broken)


def test_another_objective_than_the_source_has_is_wrong_usage(sized, nas):
    words = f"{NEXT} --warm-start searches/old --tracking-uri {sized} --max-trials 1"
    done = nas(words, "--objective val_accuracy")
    assert done.returncode == 2, done.err
    said = " ".join(done.err.split())
    assert "received 'val_accuracy', and it has flops, parameters, peak_memory_bytes, " in said
    assert "units, val_loss" in said
    done = nas(words, "--objective val_loss:max")
    assert done.returncode == 2 and "with direction 'min'" in " ".join(done.err.split())
