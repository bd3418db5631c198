"""Statistics over the repetitions of a search: means, standard errors, paired tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks._tables import Table, random_search

CHECKPOINTS = (25, 50, 100, 200)
# Evaluations of random search; the other searches must reach its result.
RACE = 300


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Attributes:
        mean: Mean over the repetitions.
        error: Standard error of the mean.
        count: Number of repetitions.
    """

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, sample: np.ndarray) -> Estimate:
        """Estimate from a sample of shape ``[repetitions]``; the error of a single value is NaN.

        >>> Estimate.of(np.array([1.0, 2.0, 3.0, 4.0]))
        Estimate(mean=2.5, error=0.6454972243679028, count=4)
        """
        spread = float(np.std(sample, ddof=1)) if len(sample) > 1 else float("nan")
        return cls(float(np.mean(sample)), spread / len(sample) ** 0.5, len(sample))

    def plain(self) -> dict[str, float | int | None]:
        """Plain data for JSON, with None instead of NaN."""
        error = None if np.isnan(self.error) else self.error
        return {"mean": self.mean, "error": error, "count": self.count}

    def errors_above(self, bar: float) -> float:
        """Difference between the mean and a target, in standard errors."""
        if self.error > 0:
            return (self.mean - bar) / self.error
        return float(np.sign(self.mean - bar)) * np.inf if self.mean != bar else 0.0


@dataclasses.dataclass(frozen=True)
class Row:
    """All repetitions of one search on one table.

    Attributes:
        table: The table that was searched.
        title: Title of the search: see `_peers.title_of`.
        truth: Shape ``[repetitions, evaluations]``: see `Run.truth`.
        seconds: Shape ``[repetitions, evaluations]``: see `Run.seconds`.
    """

    table: Table
    title: str
    truth: np.ndarray
    seconds: np.ndarray

    @property
    def evaluations(self) -> int:
        """Number of evaluations in each repetition."""
        return self.truth.shape[1]

    @property
    def checkpoints(self) -> list[int]:
        """The `CHECKPOINTS` that the search reached."""
        return [count for count in CHECKPOINTS if count <= self.evaluations]

    def at(self, evaluations: int) -> Estimate:
        """Estimate of the incumbent's judged score after a number of evaluations."""
        return Estimate.of(self.truth[:, evaluations - 1])

    def reaches(self, goal: float) -> int | None:
        """Number of evaluations after which the mean first reaches ``goal``; None if never."""
        sign = self.table.sign
        there = np.flatnonzero(sign * self.truth.mean(axis=0) >= sign * goal)
        return int(there[0]) + 1 if len(there) else None

    def regret(self, evaluations: int) -> np.ndarray:
        """Normalised regret of each repetition's incumbent, shape ``[repetitions]``.

        0 is the optimum; 1 is the table's median configuration or anything worse. Without this
        limit, the losses of diverged networks, up to 1e7, would dominate the mean.
        """
        best, middle = self.table.best, float(np.median(self.table.truth))
        return np.minimum((self.truth[:, evaluations - 1] - best) / (middle - best), 1.0)

    def seconds_per_proposal(self) -> float:
        """Median seconds per proposal."""
        return float(np.median(self.seconds))


def paired(first: np.ndarray, second: np.ndarray) -> tuple[Estimate, float]:
    """Paired difference between two samples, over their common repetitions.

    Args:
        first: Results of a search, shape ``[repetitions]``.
        second: Results of another search, with the repetitions in the same order.

    Returns:
        The mean of ``first - second``, and the p-value of a one-sided paired t-test.
    """
    from scipy import stats

    common = min(len(first), len(second))
    difference = first[:common] - second[:common]
    estimate = Estimate.of(difference)
    if not estimate.error > 0:
        return estimate, 0.0 if estimate.mean > 0 and common > 1 else 1.0
    return estimate, float(stats.t.sf(estimate.errors_above(0.0), common - 1))


def about(table: Table) -> dict:
    """A table as plain data without rows; for NAS-Bench-201, with the results of random search."""
    counts = (*CHECKPOINTS, RACE) if table.family == "nas" else ()
    return {
        "family": table.family,
        "metric": table.metric,
        "optimum": table.best,
        "median": float(np.median(table.truth)),
        "random_exact": {str(count): random_search(table, count)[0] for count in counts},
        "rows": [],
    }


def summary(row: Row) -> dict:
    """A row as plain data."""
    nas = row.table.family == "nas"
    goal = random_search(row.table, RACE)[0] if nas else float("nan")
    estimates = [row.at(count) for count in range(1, row.evaluations + 1)]
    return {
        "title": row.title,
        "repetitions": len(row.truth),
        "evaluations": row.evaluations,
        "checkpoints": {str(count): estimates[count - 1].plain() for count in row.checkpoints},
        "regret": {
            str(count): Estimate.of(row.regret(count)).plain() for count in row.checkpoints
        },
        "curve": {
            "mean": [estimate.mean for estimate in estimates],
            "error": [estimate.plain()["error"] for estimate in estimates],
        },
        # On the other tables, a few diverged networks dominate the mean of random search.
        "evaluations_to_random_at_300": row.reaches(goal) if nas else None,
        "seconds_per_proposal": row.seconds_per_proposal(),
    }
