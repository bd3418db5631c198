"""How often `keras-nas promote` promotes a challenger that is equal, and one that is better.

    python benchmarks/promotion_noise.py                      # 200 and 2,000 pairs, minutes
    python benchmarks/promotion_noise.py --pairs 200 --only mcnemar

Each pair is a challenger and a champion that are evaluated on the same simulated rows. In the
column "equal", the challenger's true improvement is exactly `min_improvement`, the boundary of
the null hypothesis: the fraction that passes must not exceed alpha. Its exact 95% interval is in
brackets. In the column "better", the true improvement is larger by the number in the row: the
fraction is the power.

Rows are equally difficult for both models. Losses are skewed like those of real classifiers.
"rare large errors" is the difficult case for a mean: the challenger is better on most rows, but
has a large error on one row in fifty.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest

from keras_nas_plugin.registry.gates.base import Candidate, Evidence
from keras_nas_plugin.registry.gates.comparison import Comparison
from keras_nas_plugin.registry.metrics import METRICS, Metric

# Takes a generator, the number of rows and the true improvement; returns the labels and both
# predictions.
Simulate = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A simulation and the test that is applied to it."""

    title: str
    metric: Metric
    simulate: Simulate
    improvement: float
    method: str = "auto"
    margin: float = 0.0


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="run the cases whose title contains this text")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    if not options.json:
        print(f"fraction promoted at alpha {options.alpha:g}, seed {options.seed}")
        print(f"{'':44s}{'rows':>6s}{'pairs':>7s}   {'equal':24s}better")
    for case in CASES:
        if options.only and options.only not in case.title:
            continue
        for rows in options.rows:
            for pairs in options.pairs:
                results.append(_measure(case, rows, pairs, options))
                if not options.json:
                    print(_line(case, results[-1]), flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


def _measure(case: Case, rows: int, pairs: int, options: argparse.Namespace) -> dict:
    rng = np.random.default_rng([options.seed, rows, pairs])
    gate = Comparison(
        case.metric,
        alpha=options.alpha,
        min_improvement=case.margin,
        method=case.method,
        resamples=options.resamples,
    )
    equal, better = (
        sum(_promoted(gate, case.simulate(rng, rows, case.margin + more)) for _ in range(pairs))
        for more in (0.0, case.improvement)
    )
    interval = binomtest(equal, pairs).proportion_ci(0.95)
    return {
        "case": case.title,
        "rows": rows,
        "pairs": pairs,
        "alpha": options.alpha,
        "equal": equal / pairs,
        "interval": [interval.low, interval.high],
        "improvement": case.improvement,
        "better": better / pairs,
    }


def _promoted(gate: Comparison, simulated: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bool:
    y, challenger, champion = simulated
    return gate.check(
        Evidence(None, y, Candidate("2", challenger), Candidate("1", champion))
    ).passed


def _line(case: Case, result: dict) -> str:
    low, high = result["interval"]
    equal = f"{result['equal']:.4f} [{low:.4f}, {high:.4f}]"
    better = f"{result['better']:.3f} at {case.improvement:+g}"
    return f"{case.title:44s}{result['rows']:6d}{result['pairs']:7d}   {equal:24s}{better}"


# ------------------------------------------------------------------ simulated models


def _classifiers(
    rng: np.random.Generator, rows: int, improvement: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes; a row is equally difficult for both models, but their outcomes differ."""
    # Leaves room for the difference on every row, so that it is exact.
    chance = abs(improvement) + (1 - abs(improvement)) * rng.beta(4, 1, rows)
    best, worst = chance, chance - abs(improvement)
    challenger, champion = (best, worst) if improvement >= 0 else (worst, best)
    y = rng.integers(2, size=rows)
    right = [rng.random(rows) < each for each in (challenger, champion)]
    first, second = (np.where(r, y, 1 - y)[:, None].astype(float) for r in right)
    return y, first, second


def _soft_classifiers(
    rng: np.random.Generator, rows: int, improvement: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of class 1, the true class of all rows; `improvement` is in logits."""
    difficulty = rng.normal(1, 2, rows)
    logits = [difficulty + more + rng.normal(0, 1, rows) for more in (improvement, 0)]
    first, second = (1 / (1 + np.exp(-each))[:, None] for each in logits)
    return np.ones(rows, int), first, second


def _rare_large_errors(
    rng: np.random.Generator, rows: int, improvement: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors around 10: the challenger's are 0.2 lower, but 10 higher on one row in fifty."""
    y = np.zeros(rows)
    champion = 10 + rng.normal(0, 1, rows)
    challenger = 10 - improvement - 0.2 + 10 * (rng.random(rows) < 0.02) + rng.normal(0, 1, rows)
    return y, challenger[:, None], champion[:, None]


def _f1(y: np.ndarray, predictions: np.ndarray) -> float:
    predicted = predictions[:, 0] > 0.5
    hits = np.count_nonzero(predicted & (y == 1))
    positives = np.count_nonzero(predicted) + np.count_nonzero(y)
    return 2 * hits / positives if positives else float("nan")


_ACCURACY, _LOSS, _MAE = (METRICS[name] for name in ("accuracy", "loss", "mae"))
CASES = (
    Case("mcnemar, accuracy", _ACCURACY, _classifiers, 0.1),
    Case("score test, accuracy, margin -0.05", _ACCURACY, _classifiers, 0.1, margin=-0.05),
    Case("bootstrap-t, accuracy", _ACCURACY, _classifiers, 0.1, method="bootstrap"),
    Case("bootstrap-t, loss (improvement in logits)", _LOSS, _soft_classifiers, 0.5),
    Case("bootstrap-t, mae, rare large errors", _MAE, _rare_large_errors, 1.0),
    Case("bootstrap and randomization, F1", Metric("f1", "max", _f1), _classifiers, 0.1),
)

if __name__ == "__main__":
    main()
