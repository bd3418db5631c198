"""Which paths of a supernet each training step trains."""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Values

# The last position of a domain: positions are in [0, 1).
_LAST = math.nextafter(1.0, 0.0)
# Paths of one step of fair sampling; a decision with more values is fair over several steps.
_MOST_PATHS = 8


class PathSampler(abc.ABC):
    """Draws the paths of a training step, whose gradients are averaged.

    Args:
        spec: The space of the supernet.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec

    @property
    @abc.abstractmethod
    def paths(self) -> int:
        """Number of paths of a step."""

    @property
    def teaches(self) -> bool:
        """Whether the first path of a step is the largest, whose predictions the others learn."""
        return False

    def within(self, spec: SearchSpec) -> PathSampler:
        """The same sampling, with as many paths of a step, in a part of the space.

        Args:
            spec: The part.
        """
        return type(self)(spec)

    @abc.abstractmethod
    def step(self, rng: np.random.Generator) -> list[Values]:
        """The paths of the next step, as many as `paths`.

        Args:
            rng: Source of randomness.
        """

    def get_state(self) -> dict[str, Any]:
        """What the next steps depend on besides the generator, as JSON."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore a state that `get_state` returned; by default, there is nothing to restore."""


class UniformSampler(PathSampler):
    """One path per step, each decision drawn from its own distribution.

    Source: Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform
    Sampling", section 3.2.
    """

    @property
    def paths(self) -> int:
        """See `PathSampler.paths`."""
        return 1

    def step(self, rng: np.random.Generator) -> list[Values]:
        """See `PathSampler.step`."""
        return [self.spec.sample(rng)]


class FairSampler(PathSampler):
    """As many paths per step as the largest decision has options, each of which is in one path.

    Each decision goes through random permutations of its options: where all decisions have
    equally many, every option is trained exactly once per step. A decision with fewer options
    continues its permutations in the next step, so that the numbers differ by at most one at any
    time. A decision with more than eight options takes several steps.

    Source: Chu et al. 2021, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural
    Architecture Search", algorithm 1. There, gradients are summed over the paths; here, they are
    averaged, which only scales the learning rate of plain gradient descent.
    """

    def __init__(self, spec: SearchSpec) -> None:
        super().__init__(spec)
        sizes = [d.domain.size for d in spec.decisions if d.domain.size is not None]
        self._paths = min(max(sizes, default=1), _MOST_PATHS)
        self._waiting: dict[str, list[int]] = {}

    @property
    def paths(self) -> int:
        """See `PathSampler.paths`."""
        return self._paths

    def within(self, spec: SearchSpec) -> FairSampler:
        """See `PathSampler.within`; where fewer paths are fair, they are so over several steps."""
        part = FairSampler(spec)
        part._paths = self._paths
        return part

    def step(self, rng: np.random.Generator) -> list[Values]:
        """See `PathSampler.step`."""
        return [self._path(rng) for _ in range(self._paths)]

    def _path(self, rng: np.random.Generator) -> Values:
        values: Values = {}
        for decision in self.spec.decisions:
            if decision.domain.size is None:
                values[decision.name] = decision.domain.sample(rng)
                continue
            waiting = self._waiting.setdefault(decision.name, [])
            if not waiting:
                waiting.extend(map(int, rng.permutation(decision.domain.size)))
            values[decision.name] = decision.domain.nth(waiting.pop())
        return self.spec.restrict(values)

    def get_state(self) -> dict[str, Any]:
        """See `PathSampler.get_state`."""
        return {"waiting": {name: list(indices) for name, indices in self._waiting.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `PathSampler.set_state`."""
        self._waiting = {name: list(indices) for name, indices in state["waiting"].items()}


class SandwichSampler(PathSampler):
    """The largest and the smallest path of each step, and random ones between them.

    Numbers (widths, kernel sizes, repetitions) are at their ends in the first two paths;
    decisions without an order, such as operations, are drawn.

    Source: Yu & Huang 2019, "Universally Slimmable Networks and Improved Training Techniques",
    section 3.2 (sandwich rule); Yu et al. 2020, "BigNAS: Scaling Up Neural Architecture Search
    with Big Single-Stage Models", section 3.1. For their distillation, see `SupernetTrainer`.

    Args:
        spec: The space of the supernet.
        random: Number of random paths, at least 0.

    Raises:
        StrategyError: ``random`` is negative.
    """

    def __init__(self, spec: SearchSpec, random: int = 2) -> None:
        super().__init__(spec)
        if random < 0:
            raise StrategyError(f"`random` must be at least 0; got {random}")
        self._random = random

    @property
    def paths(self) -> int:
        """See `PathSampler.paths`."""
        return 2 + self._random

    def within(self, spec: SearchSpec) -> SandwichSampler:
        """See `PathSampler.within`."""
        return SandwichSampler(spec, self._random)

    @property
    def teaches(self) -> bool:
        """See `PathSampler.teaches`; no path is the largest in a space without an order."""
        return any(d.domain.ordered and d.domain.size != 1 for d in self.spec.decisions)

    def step(self, rng: np.random.Generator) -> list[Values]:
        """See `PathSampler.step`."""
        ends = [self._end(rng, position) for position in (_LAST, 0.0)]
        return ends + [self.spec.sample(rng) for _ in range(self._random)]

    def _end(self, rng: np.random.Generator, position: float) -> Values:
        chosen = {
            decision.name: decision.domain.at(position)
            for decision in self.spec.decisions
            if decision.domain.ordered
        }
        return self.spec.complete(chosen, rng)


#: Samplers by the names that `OneShotOracle` takes.
SAMPLERS: dict[str, type[PathSampler]] = {
    "uniform": UniformSampler,
    "fair": FairSampler,
    "sandwich": SandwichSampler,
}
