"""`keras-nas show`: a single trial of a search."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.results import number_text, trial_result
from keras_nas_plugin.cli.trials import print_table
from keras_nas_plugin.files import json_value
from keras_nas_plugin.project import ProjectLayout, TrialLayout
from keras_nas_plugin.records.ranking import ranked
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord, load_records


@click.command()
@click.argument("trial_id", metavar="TRIAL")
@project_options
@click.option("--json", "as_json", is_flag=True, help="Print the trial as JSON.")
def show(trial_id: str, directory: str, project_name: str | None, as_json: bool) -> int:
    """Show a trial: values, metrics, costs, learning curve, model and traceback.

    TRIAL is an id as in `keras-nas trials`, or `best`.

    Example: keras-nas show 07 --project-name image_classification
    """
    search = find_search(directory, project_name)
    record = _record(search, trial_id)
    layout = ProjectLayout.of(search.directory).trial(record.trial_id)
    if as_json:
        click.echo(json.dumps(json_value(_result(search, record, layout)), indent=2))
        return 0
    _print_record(search, record)
    for execution, curve in enumerate(record.curves):
        suffix = f", execution {execution + 1}" if len(record.curves) > 1 else ""
        click.echo(f"learning curve{suffix}:")
        _print_curve(curve, record.first_epoch + 1)
    summary, traceback = _text(layout.model_summary), _text(layout.traceback)
    if summary:
        click.echo(f"model:\n{summary}")
    if record.error:
        click.echo(f"error: {record.error}")
        if record.location:
            click.echo(f"at {record.location}")
    if traceback:
        click.echo(f"traceback:\n{traceback}")
    return 0


def _print_record(search: SearchInfo, record: TrialRecord) -> None:
    score = "" if record.score is None else f", {search.objective} {number_text(record.score)}"
    click.echo(f"{search.name}: trial {record.trial_id}, {record.status.lower()}{score}")
    click.echo(f"started: {_time(record.started_ms)}, {record.seconds:.1f} seconds")
    if record.placement is not None:
        click.echo(f"worker: {record.placement}")
    if record.parents:
        click.echo(f"parents: {', '.join(record.parents)}")
    for title, values in (
        ("values", record.values),
        ("metrics", record.metrics),
        ("costs", record.costs),
        ("proxies", record.proxies),
    ):
        if values:
            click.echo(f"{title}:")
            for name, value in values.items():
                click.echo(f"  {name}: {number_text(value)}")


def _print_curve(curve: Sequence[Mapping[str, float]], first_epoch: int) -> None:
    names = list(dict.fromkeys(name for logs in curve for name in logs))
    rows = [
        (str(epoch), *(number_text(logs.get(name, "")) for name in names))
        for epoch, logs in enumerate(curve, start=first_epoch)
    ]
    print_table(("epoch", *names), rows)


def _record(search: SearchInfo, trial_id: str) -> TrialRecord:
    """The record of a trial; `best` is the best one.

    Raises:
        click.UsageError: There is no such trial, or it has not ended.
    """
    records = list(load_records(search.directory))
    if trial_id == "best":
        ranking = ranked(search, records)
        if ranking:
            return ranking[0]
    for record in records:
        if record.trial_id == trial_id:
            return record
    # KerasTuner pads ids with zeros; people do not.
    matching = [r for r in records if r.trial_id.lstrip("0") == trial_id.lstrip("0")]
    if len(matching) == 1:
        return matching[0]
    ids = ", ".join(record.trial_id for record in records[:10])
    more = ", ..." if len(records) > 10 else ""
    raise click.UsageError(
        f"`TRIAL` must be `best` or a trial of {search.name} that has ended; got {trial_id!r}. "
        f"Trials: {ids or 'none'}{more}"
    )


def _result(search: SearchInfo, record: TrialRecord, layout: TrialLayout) -> dict[str, Any]:
    return {
        **trial_result(search, record),
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "parents": list(record.parents),
        "proxies": dict(record.proxies),
        "first_epoch": record.first_epoch + 1,
        "curves": [[dict(logs) for logs in curve] for curve in record.curves],
        "model_summary": _text(layout.model_summary),
        "traceback": _text(layout.traceback),
    }


def _time(milliseconds: int) -> str:
    time = datetime.datetime.fromtimestamp(milliseconds / 1e3).astimezone()
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")


def _text(path: Path) -> str | None:
    """The content of a file; None if it does not exist."""
    try:
        return path.read_text(encoding="utf-8").rstrip()
    except FileNotFoundError:
        return None
