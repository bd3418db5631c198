"""Contracts about candidates that a screen refuses before they become trials."""

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
# So few of all candidates are feasible.
_FEASIBLE = 0.2


class _Screened(Search):
    """A search whose oracle has a screen, after each reload too."""

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
    # Not what `mixed_outcome` goes by: feasible ones crash as often as others.
    return max(0.0, hashed_score({"screened": sorted(values.items())}) - _FEASIBLE)


def infeasible_proposals_cost_no_trial(make_oracle: MakeOracle, folder: Path) -> None:
    """What a screen refuses is never a trial; a search finds ``max_trials`` others.

    The same ones with a reload after every step, and of a space that can be listed all that
    are feasible, each once, and then the status ``"STOPPED"``.
    """
    if not hasattr(make_oracle(max_trials=1, objective="val_loss"), "set_screen"):
        return  # an oracle of KerasTuner's own
    straight = _Screened(make_oracle, folder / "straight", max_trials=_TRIALS)
    expected = straight.run(5 * _TRIALS)
    new = [values for values in expected if is_new(values)]
    assert len(new) == _TRIALS, f"needs {_TRIALS} trials; received {len(new)}"
    bad = [values for values in new if _violation(configuration(values)) > 0]
    assert not bad, f"the screen refused {bad[0]}, and it became a trial"
    assert straight.oracle.refusals.count > 0, "the screen was not asked"
    names = sorted(straight.oracle.trials)
    assert names == [straight.oracle.trial_id(n) for n in range(len(expected))], (
        f"refused candidates need to use no trial ids; received {names}"
    )
    search, received = _Screened(make_oracle, folder / "reloaded", max_trials=_TRIALS), []
    while (trial := search.start()).status == TrialStatus.RUNNING:
        received.append(dict(trial.hyperparameters.values))
        search.finish(trial, mixed_outcome(received[-1]))
        search = search.reopened()
    assert received == expected, f"after reloads, needs {expected}; received {received}"
    _exhausts(make_oracle, folder / "small")


def _exhausts(make_oracle: MakeOracle, folder: Path) -> None:
    search = _Screened(make_oracle, folder, small_space, max_trials=None)
    found = [configuration(values) for values in search.run(100, hashed_score) if is_new(values)]
    wanted = [values for values in small_configurations() if not _violation(values)]
    assert sorted(map(_plain, found)) == sorted(map(_plain, wanted)), (
        f"needs each feasible configuration once, {wanted}; received {found}"
    )
    for one in (search, search.reopened()):
        status = one.start().status
        assert status == TrialStatus.STOPPED, f"needs STOPPED when none is left; received {status}"


def _plain(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)
