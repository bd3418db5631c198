"""Contracts about candidates that a screen rejects before they become trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.oracles.screening import Screening
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.testing.driving import (
    MakeOracle,
    Search,
    hashed_score,
    is_new,
    mixed_outcome,
)
from keras_nas_plugin.testing.spaces import small_configurations, small_space

_TRIALS = 20
# Share of the feasible candidates.
_FEASIBLE = 0.2


class _Screened(Search):
    """A search whose oracle has a screen, also after each reload."""

    def _open(self) -> keras_tuner.Oracle:
        oracle = super()._open()
        oracle.set_screen(_screen)
        return oracle

    def reopened(self) -> _Screened:
        return _Screened(self._make_oracle, self.folder, self.space, **self.options)


def _screen(hp: keras_tuner.HyperParameters) -> Screening:
    violation = _violation(hp.values)
    return Screening(violation, {"size": 1.0 + violation}, {"size": violation})


def _violation(values: Mapping[str, Any]) -> float:
    if "kind" in values:  # of the small space
        return float(values["kind"] == "conv")
    # Independent of `mixed_outcome`: feasible configurations crash as often as others.
    return max(0.0, hashed_score({"screened": sorted(values.items())}) - _FEASIBLE)


def infeasible_proposals_cost_no_trial(make_oracle: MakeOracle, folder: Path) -> None:
    """A candidate that a screen rejects never becomes a trial, and uses up none.

    A search with a reload after every step runs the same trials. In a space that can be listed
    it runs every feasible configuration once, and then returns the status ``"STOPPED"``.
    """
    if not hasattr(make_oracle(max_trials=1, objective="val_loss"), "set_screen"):
        return  # an oracle of KerasTuner's own
    straight = _Screened(make_oracle, folder / "straight", max_trials=_TRIALS)
    expected = straight.run(5 * _TRIALS)
    new = [values for values in expected if is_new(values)]
    assert len(new) == _TRIALS, f"{_TRIALS} trials must run; got {len(new)}"
    bad = [values for values in new if _violation(configuration(values)) > 0]
    assert not bad, f"the screen rejected {bad[0]}, which became a trial"
    assert straight.oracle.infeasible.count > 0, "the screen was not called"
    names = sorted(straight.oracle.trials)
    assert names == [straight.oracle.trial_id(n) for n in range(len(expected))], (
        f"rejected candidates must not use up trial ids; got {names}"
    )
    search, proposals = _Screened(make_oracle, folder / "reloaded", max_trials=_TRIALS), []
    while (trial := search.start()).status == TrialStatus.RUNNING:
        proposals.append(dict(trial.hyperparameters.values))
        search.finish(trial, mixed_outcome(proposals[-1]))
        search = search.reopened()
    assert proposals == expected, f"after reloads, proposals must be {expected}; got {proposals}"
    _exhausts(make_oracle, folder / "small")


def _exhausts(make_oracle: MakeOracle, folder: Path) -> None:
    search = _Screened(make_oracle, folder, small_space, max_trials=None)
    proposals = search.run(100, hashed_score)
    tried = [configuration(values) for values in proposals if is_new(values)]
    feasible = [values for values in small_configurations() if not _violation(values)]
    assert sorted(map(_json, tried)) == sorted(map(_json, feasible)), (
        f"each feasible configuration must be tried once, {feasible}; got {tried}"
    )
    for session in (search, search.reopened()):
        status = session.start().status
        assert status == TrialStatus.STOPPED, (
            f"the status must be STOPPED when no configuration is left; got {status}"
        )


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)
