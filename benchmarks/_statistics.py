"""What many repetitions of a search come to: means, standard errors, paired tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks._tables import Table, random_search

CHECKPOINTS = (25, 50, 100, 200)
# The value of random search that the others race to.
RACE = 300


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Attributes:
        mean: Over the repetitions.
        error: Standard error of the mean.
        count: Number of repetitions.
    """

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, sample: np.ndarray) -> Estimate:
        """Of a sample of shape ``[repetitions]``; one value alone has an unknown error.

        >>> Estimate.of(np.array([1.0, 2.0, 3.0, 4.0]))
        Estimate(mean=2.5, error=0.6454972243679028, count=4)
        """
        spread = float(np.std(sample, ddof=1)) if len(sample) > 1 else float("nan")
        return cls(float(np.mean(sample)), spread / len(sample) ** 0.5, len(sample))

    def plain(self) -> dict[str, float | int | None]:
        """As JSON knows it, which has no NaN."""
        error = None if np.isnan(self.error) else self.error
        return {"mean": self.mean, "error": error, "count": self.count}

    def errors_above(self, bar: float) -> float:
        """By how many standard errors the mean is above a number."""
        if self.error > 0:
            return (self.mean - bar) / self.error
        return float(np.sign(self.mean - bar)) * np.inf if self.mean != bar else 0.0


@dataclasses.dataclass(frozen=True)
class Row:
    """All repetitions of one search on one table.

    Attributes:
        table: What was searched.
        title: Who searched: see `_peers.title_of`.
        truth: Shape ``[repetitions, evaluations]``: see `Run.truth`.
        seconds: Shape ``[repetitions, evaluations]``: see `Run.seconds`.
    """

    table: Table
    title: str
    truth: np.ndarray
    seconds: np.ndarray

    @property
    def evaluations(self) -> int:
        """How far the search was run."""
        return self.truth.shape[1]

    @property
    def checkpoints(self) -> list[int]:
        """Those of `CHECKPOINTS` that it reached."""
        return [count for count in CHECKPOINTS if count <= self.evaluations]

    def at(self, evaluations: int) -> Estimate:
        """The judged answer after so many queries."""
        return Estimate.of(self.truth[:, evaluations - 1])

    def reaches(self, goal: float) -> int | None:
        """First number of evaluations whose mean answer is as good as ``goal``."""
        sign = self.table.sign
        there = np.flatnonzero(sign * self.truth.mean(axis=0) >= sign * goal)
        return int(there[0]) + 1 if len(there) else None

    def regret(self, evaluations: int) -> np.ndarray:
        """Normalised regret of each repetition's answer, shape ``[repetitions]``.

        0 is the optimum, 1 the table's median configuration or anything worse than it: the
        losses of diverged networks, up to 1e7, would drown all others in a mean.
        """
        best, middle = self.table.best, float(np.median(self.table.truth))
        return np.minimum((self.truth[:, evaluations - 1] - best) / (middle - best), 1.0)

    def seconds_per_proposal(self) -> float:
        """Median over all proposals."""
        return float(np.median(self.seconds))


def paired(first: np.ndarray, second: np.ndarray) -> tuple[Estimate, float]:
    """How much the first is above the second, over the repetitions that both have.

    Args:
        first: Shape ``[repetitions]``, by repetition.
        second: The same for another search.

    Returns:
        The mean difference, and the p-value of Student's one-sided t-test for pairs.
    """
    from scipy import stats

    common = min(len(first), len(second))
    difference = first[:common] - second[:common]
    estimate = Estimate.of(difference)
    if not estimate.error > 0:
        return estimate, 0.0 if estimate.mean > 0 and common > 1 else 1.0
    return estimate, float(stats.t.sf(estimate.errors_above(0.0), common - 1))


def about(table: Table) -> dict:
    """A table as plain data, without rows; with random search where its mean says something."""
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
        # On the other tables a few diverged networks decide what random search's mean is.
        "evaluations_to_random_at_300": row.reaches(goal) if nas else None,
        "seconds_per_proposal": row.seconds_per_proposal(),
    }
