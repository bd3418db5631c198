"""Describes a search for its trackers and its users."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.html import html_summary, html_table
from keras_nas_plugin.inheritance.settings import PARENT, Inheritance
from keras_nas_plugin.oracles.changes import exclusions_of, max_trials_of
from keras_nas_plugin.records.dataframe import trials_dataframe
from keras_nas_plugin.records.search import InfeasibleSummary, SearchInfo
from keras_nas_plugin.records.trial import FAILED, TrialRecord, load_records
from keras_nas_plugin.space.hyperparameters import describe as describe_space
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments

# Trials in the HTML of a search.
_SHOWN_TRIALS = 10


def search_info(context: SearchContext, fit: FitArguments) -> SearchInfo:
    """Describe a search that is about to start.

    Args:
        context: The search.
        fit: Arguments of `search`.
    """
    oracle, bookkeeping = context.oracle, context.bookkeeping
    return SearchInfo(
        search_id=context.search_id,
        name=context.name,
        objective=oracle.objective.name,
        direction=oracle.objective.direction,
        strategy=type(oracle).__name__,
        max_trials=max_trials_of(oracle),
        space=describe_space(context.get_space()),
        settings=_settings(context, fit),
        environment=bookkeeping.value(
            "device and versions are not recorded",
            lambda: runtime.describe(context.precision, context.distribution_strategy),
            {},
        ),
        datasets=fit.describe(context.dataset, bookkeeping.report),
        constraints=tuple(map(dataclasses.asdict, getattr(oracle, "constraints", ()))),
        objectives=tuple(
            (objective.name, objective.direction) for objective in context.objectives
        ),
        directory=str(context.layout.folder),
        resume_command=context.resume_command or _script_command(),
        exclusions=exclusions_of(oracle),
    )


def _settings(context: SearchContext, fit: FitArguments) -> dict[str, Any]:
    data = fit.names[: min(len(fit.args), 2)]
    plain = {
        name: value
        for name, value in fit.values.items()
        if isinstance(value, str | int | float | bool) and name not in (*data, "verbose")
    }
    objectives = ", ".join(
        f"{objective.name} ({objective.direction})" for objective in context.objectives
    )
    return {
        **plain,
        **context.data_settings,
        **({"objectives": objectives} if objectives else {}),
        "seed": getattr(context.oracle, "seed", None),
        "deterministic": context.deterministic,
        "executions_per_trial": context.executions_per_trial,
        "budget_seconds": context.budget.seconds,
        "max_model_size": context.max_model_size,
        **_inheritance(context.inheritance),
    }


def _inheritance(inheritance: Inheritance | None) -> dict[str, Any]:
    if inheritance is None:
        return {}
    return {"inherit": PARENT, "inherit_epochs": inheritance.epochs}


def _script_command() -> str | None:
    """The command that runs this program again; None in a notebook or a shell."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]])
    if getattr(main, "__file__", None) is None:
        return None
    return shlex.join(["python", *sys.argv])


def print_summary(context: SearchContext, trials: Sequence[Trial]) -> None:
    """Print trials: score, costs, hyperparameters. If none completed, print why.

    Args:
        context: The search.
        trials: Completed trials, best first.
    """
    objective = context.oracle.objective
    print(f"Results in {context.layout.folder}")
    print(f"Objective: {objective.name} ({objective.direction})")
    infeasible = InfeasibleSummary.load(context.layout.folder)
    if infeasible.count:
        print(infeasible)
    if not trials:
        print("\n".join(why_no_trial_completed(context)))
    for rank, trial in enumerate(trials, start=1):
        print(f"\n#{rank} trial {trial.trial_id}: {objective.name} {trial.score:.6g}")
        record = TrialRecord.load(context.layout.trial(trial.trial_id).folder)
        for name, cost in (record.costs if record else {}).items():
            print(f"  {name}: {cost:,.6g}")
        trial.display_hyperparameters()


def why_no_trial_completed(context: SearchContext) -> list[str]:
    """Lines that say why a search has no completed trial, with the causes of its failures.

    Args:
        context: The search.
    """
    records = list(load_records(context.layout.folder))
    failed = [record for record in records if record.status == FAILED]
    if not failed:
        lines = ["No trial has completed yet."] if not records else []
        return lines or ["No trial has completed: those that ran were interrupted."]
    lines = [f"No trial has completed; {len(failed)} failed:"]
    causes: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in failed:
        cause = (record.error or "unknown", str(record.location or ""))
        causes.setdefault(cause, []).append(record)
    for (error, location), group in sorted(causes.items(), key=lambda item: -len(item[1])):
        count = "trial" if len(group) == 1 else "trials"
        lines.append(f"  {len(group)} {count}, for example {group[0].trial_id}: {error}")
        if location:
            lines.append(f"    at {location}")
        traceback = context.layout.trial(group[0].trial_id).traceback
        if traceback.exists():
            lines.append(f"    traceback: {traceback}")
    return lines


def search_html(context: SearchContext) -> str:
    """A search and its best trials as HTML for a notebook.

    Args:
        context: The search.
    """
    frame, objective = trials_dataframe(context.layout.folder), context.oracle.objective
    counts = frame["status"].str.lower().value_counts().to_dict()
    facts = {
        "oracle": type(context.oracle).__name__,
        "objective": f"{objective.name} ({objective.direction})",
        "trials": ", ".join(f"{count} {status}" for status, count in counts.items()) or "none",
        "folder": context.layout.folder,
    }
    best = frame[frame["rank"].notna()].sort_values("rank").head(_SHOWN_TRIALS)
    names = [name for name in frame.columns if name.startswith("values.")]
    rows = [
        (trial_id, row["score"], row["seconds"], *(_shown(row[name]) for name in names))
        for trial_id, row in best.iterrows()
    ]
    heading = ["trial", objective.name, "seconds"]
    heading += [name.removeprefix("values.") for name in names]
    return html_summary(f"Search {context.name}", facts, html_table(heading, rows))


def _shown(value: object) -> object:
    """A value of a table; None where it is missing because the hyperparameter is inactive."""
    return None if isinstance(value, float) and math.isnan(value) else value
