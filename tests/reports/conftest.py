"""Project folders of searches without training: records with synthetic, realistic scores."""

from __future__ import annotations

import numpy as np
import pytest

from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, TrialRecord
from keras_nas_plugin.reports.space import space_of

START = 1_700_000_000_000
SPACE = (
    {"name": "block", "type": "Choice", "values": ["plain", "residual", "separable"]},
    {"name": "depth", "type": "Int", "min_value": 1, "max_value": 6, "step": 1},
    {"name": "width", "type": "Int", "min_value": 8, "max_value": 128, "step": 8},
    {"name": "dropout", "type": "Float", "min_value": 0.0, "max_value": 0.5, "step": 0.05},
    {
        "name": "learning_rate",
        "type": "Float",
        "min_value": 1e-4,
        "max_value": 1e-1,
        "sampling": "log",
    },
    {"name": "normalise", "type": "Boolean"},
    {
        "name": "shortcut",
        "type": "Choice",
        "values": ["identity", "projection"],
        "conditions": [{"parent": "block", "values": ["residual"]}],
    },
    {"name": "padding", "type": "Fixed", "value": "same"},
)


def noiseless_score(values):
    """The score of a configuration without noise: between 0.6 and 0.95."""
    rate = np.log10(values["learning_rate"])
    score = 0.80 - 0.06 * (rate + 2.5) ** 2 + 0.05 * (values["block"] == "residual")
    score += 0.025 * (values["depth"] - 1) / 5 + 0.03 * np.log2(values["width"] / 8) / 4
    score += 0.02 * values["normalise"] - 0.05 * values["dropout"]
    return float(score + 0.01 * (values.get("shortcut") == "projection"))


def search_info(directory, **changes):
    """A search; keyword arguments replace fields."""
    fields = {
        "search_id": "search-1",
        "name": "digits",
        "objective": "val_accuracy",
        "direction": "max",
        "strategy": "RegularizedEvolutionOracle",
        "max_trials": 60,
        "space": SPACE,
        "settings": {"epochs": 3, "seed": 0},
        "environment": {"device": "CPU", "precision": "float32", "keras": "3.15.1"},
        "directory": str(directory),
    }
    return SearchInfo(**{**fields, **changes})


def record_of(number, values, score, **changes):
    """The record of a trial; keyword arguments replace fields."""
    parameters = 100 * values.get("width", 8) * values.get("depth", 1)
    fields = {
        "trial_id": f"{number:04d}",
        "values": values,
        "status": FINISHED,
        "score": score,
        "metrics": {"val_accuracy": score, "val_loss": 2.0 * (1.0 - (score or 0.0))},
        "best_step": 2,
        "costs": {
            "parameters": float(parameters),
            "flops": parameters * 64.0,
            "train_seconds": 2.0 + parameters / 1e4,
        },
        "started_ms": START + number * 10_000,
        "ended_ms": START + number * 10_000 + 6_000 + parameters // 20,
    }
    return TrialRecord(**{**fields, **changes})


def failed(number, values, error, parents=()):
    """The record of a trial that failed."""
    fields = {"status": FAILED, "metrics": {}, "costs": {}, "error": error}
    return record_of(number, values, None, parents=parents, **fields)


def evolve(search, trials, *, population=20, seed=0, failing=0.06, crossover=0.3, proxies=True):
    """Records of an evolution with mutations and crossovers."""
    rng = np.random.default_rng(seed)
    spec = space_of(search)
    records, population_members = [], []
    for number in range(trials):
        parents = ()
        if len(population_members) < population:
            values = spec.sample(rng)
        elif rng.random() < crossover:
            first, second = (_winner(population_members, rng) for _ in range(2))
            parents = tuple(dict.fromkeys((first.trial_id, second.trial_id)))
            values = spec.mutate(spec.cross(first.values, second.values, rng), rng)
        else:
            parent = _winner(population_members, rng)
            parents, values = (parent.trial_id,), spec.mutate(parent.values, rng)
        if rng.random() < failing:
            kinds = (
                f"ResourceExhaustedError: out of memory allocating {number * 1024} bytes",
                "ValueError: negative dimension size",
            )
            records.append(failed(number, values, kinds[number % 3 == 0], parents))
            continue
        score = noiseless_score(values) + 0.01 * rng.normal()
        guesses = {}
        if proxies:
            guesses = {
                "synflow": noiseless_score(values) + 0.03 * rng.normal(),
                "naswot": rng.normal(),
                "predicted_rank": float(1 + rng.integers(1 + len(records))),
            }
        record = record_of(number, values, score, parents=parents, proxies=guesses)
        records.append(record)
        population_members = [*population_members, record][-population:]
    return records


def _winner(population_members, rng):
    """The best trial of a tournament."""
    contestants = [
        population_members[int(index)] for index in rng.integers(len(population_members), size=3)
    ]
    return max(contestants, key=lambda record: record.score)


def save(search, records):
    """Write a project folder and return its path."""
    from pathlib import Path

    folder = Path(search.directory)
    folder.mkdir(parents=True, exist_ok=True)
    search.save()
    for record in records:
        trial = folder / f"trial_{record.trial_id}"
        trial.mkdir(exist_ok=True)
        record.save(trial)
    return folder


@pytest.fixture(scope="session")
def evolved(tmp_path_factory):
    """A search of 60 trials with everything that a report shows; tests must not change it."""
    search = search_info(tmp_path_factory.mktemp("searches") / "digits")
    return save(search, evolve(search, 60))
