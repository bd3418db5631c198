"""What a search is, as its tracker is told."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.evaluation.datasets import describe_data
from keras_nas_plugin.space.hyperparameters import describe as describe_space
from keras_nas_plugin.tracking.records import (
    DatasetInfo,
    SearchInfo,
    TrialRecord,
    load_refusals,
)
from keras_nas_plugin.training import runtime

logger = logging.getLogger("keras_nas_plugin")


def search_info(tuner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> SearchInfo:
    """Describe a search that is about to start.

    Args:
        tuner: A `NASTuner`.
        args: Positional arguments of `search`.
        kwargs: Keyword arguments of `search`.
    """
    oracle = tuner._local_oracle
    return SearchInfo(
        search_id=tuner.search_id,
        name=tuner.project_name,
        objective=oracle.objective.name,
        direction=oracle.objective.direction,
        strategy=type(oracle).__name__,
        max_trials=oracle.max_trials,
        space=describe_space(tuner.oracle.get_space()),
        settings=_settings(tuner, kwargs),
        environment=runtime.describe(tuner.precision, tuner.distribution_strategy),
        datasets=datasets_of(tuner.dataset, args, kwargs),
        constraints=tuple(map(dataclasses.asdict, getattr(oracle, "constraints", ()))),
        objectives=tuple((one.name, one.direction) for one in _several(tuner)),
        directory=str(tuner.project_dir),
        resume_command=tuner.resume_command or _script_command(),
    )


def warn_of_other_data(earlier: SearchInfo | None, now: SearchInfo) -> None:
    """Say so when a search goes on with other data: its scores cannot be compared."""
    if earlier is None:
        return
    before = [(data.context, data.digest) for data in earlier.datasets]
    if before != [(data.context, data.digest) for data in now.datasets]:
        logger.warning(
            "The search in %s goes on with other data than it began with: its scores cannot be "
            "compared. Start over with `overwrite=True`, or give the same data.",
            now.directory,
        )


def _several(tuner: Any) -> Sequence[Any]:
    """The objectives of a search that has more than one."""
    return getattr(tuner._local_oracle.objective, "objectives", ())


def _settings(tuner: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in kwargs.items() if isinstance(v, str | int | float | bool)}
    plain.pop("verbose", None)
    names = ", ".join(f"{one.name} ({one.direction})" for one in _several(tuner))
    return {
        **plain,
        **({"objectives": names} if names else {}),
        "seed": getattr(tuner._local_oracle, "seed", None),
        "deterministic": tuner.deterministic,
        "executions_per_trial": tuner.executions_per_trial,
        "budget_seconds": tuner.budget,
        "max_model_size": tuner.max_model_size,
    }


def datasets_of(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[DatasetInfo, ...]:
    """Training and validation data among the arguments of `search`."""
    named = dict(zip(("x", "y"), args, strict=False)) | dict(kwargs)
    x, y = named.get("x"), named.get("y")
    described = []
    if x is not None:
        data = x if y is None else {"x": x, "y": y}
        described.append(describe_data(name, "training", data))
    if named.get("validation_data") is not None:
        data = named["validation_data"]
        if isinstance(data, tuple | list) and len(data) >= 2:
            data = {"x": data[0], "y": data[1]}
        described.append(describe_data(f"{name}-validation", "validation", data))
    return tuple(DatasetInfo(**item) for item in described)


def _script_command() -> str | None:
    """The command that runs this program again; None in a notebook or a shell."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]])
    if getattr(main, "__file__", None) is None:
        return None
    return shlex.join(["python", *sys.argv])


def print_summary(tuner: Any, trials: Sequence[Any]) -> None:
    """Print trials: score, costs, hyperparameters.

    Args:
        tuner: A `NASTuner`.
        trials: Completed ones, best first.
    """
    objective = tuner.oracle.objective
    print(f"Results in {tuner.project_dir}")
    print(f"Objective: {objective.name} ({objective.direction})")
    refusals = load_refusals(tuner.project_dir)
    if refusals.count:
        print(refusals)
    for rank, trial in enumerate(trials, start=1):
        print(f"\n#{rank} trial {trial.trial_id}: {objective.name} {trial.score:.6g}")
        record = TrialRecord.load(tuner.get_trial_dir(trial.trial_id))
        for name, cost in (record.costs if record else {}).items():
            print(f"  {name}: {cost:,.6g}")
        trial.display_hyperparameters()
