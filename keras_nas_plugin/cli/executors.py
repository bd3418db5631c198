"""Options of `keras-nas search` that say where trials are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from keras_nas_plugin.cli.options import Duration, Size, Workers, usage_errors
from keras_nas_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from keras_nas_plugin.executors.base import ExecutorSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LOCAL, _RAY = "local", "ray"
# Fields of `LocalExecutor` and of `RayExecutor`, which are options of the same names.
_OPTIONS = {
    _LOCAL: ("threads_per_worker", "trial_timeout", "memory_per_worker", "gpus_per_worker"),
    _RAY: ("address", "cpus_per_trial", "gpus_per_trial", "trial_timeout", "wait_for_nodes"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutorChoice:
    """Where trials are trained; each field is an option, and None where it is not given."""

    executor: str | None
    workers: int | Literal["auto"] | None
    threads_per_worker: int | None
    trial_timeout: float | None
    memory_per_worker: int | None
    gpus_per_worker: float | None
    address: str | None
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    wait_for_nodes: float | None

    @property
    def has_workers(self) -> bool:
        """Whether trials are trained in processes of their own."""
        return self.executor is not None or self.workers is not None

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            click.UsageError: An option is given that belongs to another executor.
        """
        kind = (self.executor or _LOCAL) if self.has_workers else None
        for owner, names in _OPTIONS.items():
            for field in names:
                if getattr(self, field) is None or (kind and field in _OPTIONS[kind]):
                    continue
                name, needed = field.replace("_", "-"), "--executor ray"
                if owner == _LOCAL:
                    needed = "--workers" if kind is None else "--executor local"
                raise click.UsageError(
                    f"`--{name}` must be combined with `{needed}`; got "
                    f"{f'`--executor {kind}`' if kind else f'no `{needed}`'}"
                )

    def settings(self) -> ExecutorSettings | None:
        """What `NASTuner` takes as ``executor``.

        Raises:
            click.UsageError: A value is out of range.
        """
        from keras_nas_plugin import LocalExecutor, RayExecutor

        if not self.has_workers:
            return None
        given = {
            name: getattr(self, name)
            for name in _OPTIONS[self.executor or _LOCAL]
            if getattr(self, name) is not None
        }
        with usage_errors(ArgumentError):
            kind = RayExecutor if self.executor == _RAY else LocalExecutor
            return kind(workers=self.workers or "auto", **given)


def executor_options(command: _Command) -> _Command:
    """Add `--executor`, `--workers` and what belongs to them to a command."""
    for option in reversed(_DECORATORS):
        command = option(command)
    return command


_DECORATORS = (
    click.option(
        "--executor",
        type=click.Choice([_LOCAL, _RAY]),
        help="Train several trials at once: in processes on this machine, or on the nodes of a "
        "Ray cluster. [default: local with --workers]",
    ),
    click.option(
        "--workers",
        type=Workers(),
        help="Train this many trials at once, each in a process of its own; `auto` for as many as "
        "the machine or the cluster can carry.",
    ),
    click.option(
        "--threads-per-worker",
        type=click.IntRange(min=1),
        help="Threads of each process. [default: the cores divided by the workers]",
    ),
    click.option(
        "--trial-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        help="A trial that trains longer in its process has failed.",
    ),
    click.option(
        "--memory-per-worker",
        type=Size(),
        help="A process that uses more memory, for example 2GB, is ended: its trial runs again "
        "alone.",
    ),
    click.option(
        "--gpus-per-worker",
        metavar="NUMBER",
        type=click.FloatRange(min=0),
        help="A share of a GPU, such as 0.5, or a number of GPUs for each process.",
    ),
    click.option(
        "--address",
        help="With Ray: `auto` or HOST:PORT of a running cluster. [default: RAY_ADDRESS, or a new "
        "one on this machine]",
    ),
    click.option(
        "--cpus-per-trial",
        metavar="NUMBER",
        type=click.FloatRange(min=0),
        help="With Ray: processor cores that each trial needs. [default: 1]",
    ),
    click.option(
        "--gpus-per-trial",
        metavar="NUMBER",
        type=click.FloatRange(min=0),
        help="With Ray: GPUs that each trial needs, or a share such as 0.5. [default: 0]",
    ),
    click.option(
        "--wait-for-nodes",
        type=Duration(),
        help="With Ray: how long to wait for a node that is large enough, for example 10m.",
    ),
)
