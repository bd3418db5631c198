"""Targets of the benchmarks ("bars"), compared with the measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks import _peers
from benchmarks._statistics import RACE, Estimate, Row, paired
from benchmarks._tables import HPOBENCH, HPOLIB, NAS_BENCH_201, random_search

RANDOM, SURROGATE = "RandomOracle", "SurrogateOracle"
# Target accuracies by oracle and number of evaluations, in the order of `NAS_BENCH_201`.
REACHED = {
    (SURROGATE, 50): (91.36, 72.9, 46.05),
    (SURROGATE, 100): (91.52, 73.15, 46.27),
    ("LocalSearchOracle", 50): (91.27, 72.4, 45.5),
    ("RegularizedEvolutionOracle", 100): (91.38, 72.7, 45.97),
    ("ReinforceOracle", 100): (91.10, 71.72, 45.63),
    ("PPOOracle", 100): (91.10, 71.72, 45.63),
}
# Evaluations within which the surrogate must reach the result of random search after `RACE`.
RACE_WON = 45
# Evaluations after which searches are compared, and the significance level of the test against
# random search.
COMPARED, LEVEL = 100, 0.01
# Evaluations after which searches are also compared with their peers. KerasTuner's Bayesian oracle
# is not run any longer than this.
ALSO_COMPARED = (50,)
# Maximum seconds per proposal, by number of finished trials.
SECONDS = {SURROGATE: {300: 0.5, 3000: 2.0}}
SECONDS_OF_OTHERS = {100: 0.010, 3000: 0.010}

Rows = Mapping[tuple[str, str], Row]


@dataclasses.dataclass(frozen=True)
class Bar:
    """A target, the measurement and the verdict.

    Attributes:
        claim: The target as text.
        measured: The measurement as text.
        verdict: ``PASS``, ``PASS (within 2 SE)`` or ``MISS``; for comparisons with a peer, see
            `lead`.
    """

    claim: str
    measured: str
    verdict: str


def verdict(errors_above: float) -> str:
    """The verdict on a result, from its distance above the target in standard errors.

    >>> verdict(0.1), verdict(-1.9), verdict(-2.1)
    ('PASS', 'PASS (within 2 SE)', 'MISS')
    """
    if errors_above >= 0:
        return "PASS"
    return "PASS (within 2 SE)" if errors_above >= -2 else "MISS"


def nas_bars(rows: Rows) -> list[Bar]:
    """The targets on NAS-Bench-201 that the searches ran long enough to be compared with."""
    bars = []
    for (title, count), needed in REACHED.items():
        for table, bar in zip(NAS_BENCH_201, needed, strict=True):
            row = rows.get((table, title))
            if row is not None and row.evaluations >= count:
                claim = f"{title} on {table}: {bar} at {count}"
                bars.append(_reached(claim, row.at(count), bar))
    for table in NAS_BENCH_201:
        row = rows.get((table, SURROGATE))
        if row is not None and row.evaluations >= RACE_WON:
            goal = random_search(row.table, RACE)[0]
            claim = f"{SURROGATE} on {table}: random search's {goal:.2f} at {RACE} within "
            bar = _reached(f"{claim}{RACE_WON}", row.at(RACE_WON), goal)
            first = row.reaches(goal) or f"none of {row.evaluations}"
            bars.append(dataclasses.replace(bar, measured=f"{bar.measured}; first at {first}"))
    for table in NAS_BENCH_201:
        here = {count: _answers(rows, table, count) for count in (*ALSO_COMPARED, COMPARED)}
        bars += _against_random(table, here[COMPARED])
        for count, answers in here.items():
            bars += _against_peers(table, answers, count)
    return bars


def comparison(claim: str, gain: Estimate) -> Bar:
    """A target that is met if a paired difference is not negative."""
    return Bar(claim, paired_words(gain), verdict(gain.errors_above(0.0)))


def lead(errors_above: float) -> str:
    """The verdict on a comparison, from its paired difference in standard errors.

    >>> lead(2.1), lead(-2.0), lead(-2.1)
    ('AHEAD', 'LEVEL (within 2 SE)', 'BEHIND')
    """
    if abs(errors_above) <= 2:
        return "LEVEL (within 2 SE)"
    return "AHEAD" if errors_above > 0 else "BEHIND"


def _reached(claim: str, estimate: Estimate, bar: float) -> Bar:
    above = estimate.errors_above(bar)
    measured = f"{estimate.mean:.3f} ± {estimate.error:.3f}, {above:+.1f} SE"
    return Bar(claim, measured, verdict(above))


def _answers(rows: Rows, table: str, count: int) -> dict[str, np.ndarray]:
    """Judged scores after a number of evaluations, by title; larger is better."""
    return {
        title: row.table.sign * row.truth[:, count - 1]
        for (where, title), row in rows.items()
        if where == table and row.evaluations >= count
    }


def _against_random(table: str, answers: Mapping[str, np.ndarray]) -> Iterator[Bar]:
    """Compare every other oracle with random search, which it must outperform."""
    for title in answers:
        if title == RANDOM or title in _peers.PEERS.values() or RANDOM not in answers:
            continue
        gain, p = paired(answers[title], answers[RANDOM])
        claim = f"{title} on {table}: above {RANDOM} at {COMPARED}, p < {LEVEL}"
        yield Bar(claim, f"{paired_words(gain)}, p = {p:.2g}", "PASS" if p < LEVEL else "MISS")


def _against_peers(table: str, answers: Mapping[str, np.ndarray], count: int) -> Iterator[Bar]:
    """Compare every oracle except random search with the best peer on a table.

    A peer with fewer repetitions than the others may be the best by chance, so only the surrogate
    is compared with it.
    """
    peers = {title: sample for title, sample in answers.items() if title in _peers.PEERS.values()}
    if not peers:
        return
    most = max(len(sample) for sample in peers.values())
    best = max(peers, key=lambda title: (len(peers[title]) == most, peers[title].mean()))
    fewer = [title for title, sample in peers.items() if len(sample) < most]
    for title, sample in answers.items():
        if title in peers or title == RANDOM:
            continue
        for peer in (best, *fewer) if title == SURROGATE else (best,):
            gain, _ = paired(sample, peers[peer])
            which = "the best peer, " if peer == best else ""
            claim = f"{title} on {table} at {count} beside {which}{peer}"
            yield Bar(claim, paired_words(gain), lead(gain.errors_above(0.0)))


def paired_words(gain: Estimate) -> str:
    """A paired difference as text."""
    above = gain.errors_above(0.0)
    return f"{gain.mean:+.4f} ± {gain.error:.4f}, {above:+.1f} SE, {gain.count} pairs"


def hpo_bars(rows: Rows) -> list[Bar]:
    """The targets on HPOLib and HPOBench, over all tables combined."""
    tpe = _peers.PEERS[_peers.TPE]
    bars = []
    for title in dict.fromkeys(title for _, title in rows):
        if title in _peers.PEERS.values() or title == RANDOM:
            continue
        for baseline in (RANDOM, tpe) if title == SURROGATE else (RANDOM,):
            gain = regret_gain(rows, title, baseline)
            if gain is not None:
                claim = (
                    f"{title} on HPOLib and HPOBench: regret at {COMPARED} not above {baseline}'s"
                )
                bars.append(comparison(claim, gain))
    return bars


def regret_gain(rows: Rows, title: str, baseline: str) -> Estimate | None:
    """Normalised regret of a baseline minus that of a search, over tables and repetitions."""
    first, second = [], []
    for table in (*HPOLIB, *HPOBENCH):
        ours, theirs = rows.get((table, title)), rows.get((table, baseline))
        if ours is None or theirs is None or min(ours.evaluations, theirs.evaluations) < COMPARED:
            continue
        common = min(len(ours.truth), len(theirs.truth))
        first.append(theirs.regret(COMPARED)[:common])
        second.append(ours.regret(COMPARED)[:common])
    return paired(np.concatenate(first), np.concatenate(second))[0] if first else None


def speed_bars(speed: Mapping[str, Mapping[str, float]]) -> list[Bar]:
    """The targets for seconds per proposal, by title and number of finished trials."""
    bars = []
    for title, times in speed.items():
        for count, most in SECONDS.get(title, SECONDS_OF_OTHERS).items():
            taken = times[str(count)]
            claim = f"{title}: at most {most * 1e3:.0f} ms per proposal after {count} trials"
            bars.append(Bar(claim, f"{taken * 1e3:.1f} ms", "PASS" if taken <= most else "MISS"))
    return bars
