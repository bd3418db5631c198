"""An autoregressive policy over a search space: each decision given those before it.

The probability of a configuration is the product of its choices' probabilities::

    pi(x) = prod_k pi(x_k | x_1 .. x_k-1)

over the decisions that are active in ``x``: a child is chosen only if its parent activates it
(Zoph & Le 2017, "Neural Architecture Search with Reinforcement Learning", section 3.1). Every
domain is divided into *cells*, and each conditional distribution is a softmax over them::

    pi(c | prefix)  ~  mass_c * exp(phi_c . (bias + hidden(prefix) @ context))

``mass`` is the space's own distribution, so a policy with zero weights is random search.
``phi`` is one-hot for an unordered domain and a few smooth waves for an ordered one, so that
learning generalises to nearby numbers. ``hidden`` is a fixed random layer (Rahimi & Recht 2007,
"Random Features for Large-Scale Kernel Machines"): only the linear weights ``bias`` and
``context`` are learned, which keeps the state small and the gradients exact.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.spec import Decision, SearchSpec, Values

#: Arrays by name; the first axis of each is the decision.
Weights = dict[str, np.ndarray]

# Cells of an ordered domain: finer than 200 trials can resolve.
_CELLS = 24
# Number of waves of an ordered domain, and the bandwidth in position of their kernel.
_WAVES = 6
_BANDWIDTH = 0.1
# Deviation of the fixed layer's weights: tanh stays unsaturated for a handful of decisions.
_SPREAD = 0.5


def cell_edges(domain: Domain, most: int = _CELLS) -> np.ndarray:
    """Edges of the cells of a domain's unit interval, always between two values.

    Args:
        domain: Any domain.
        most: Approximate number of cells of an ordered domain; with at most that many evenly
            spaced values, there is one cell per value.

    Returns:
        Increasing positions from 0 to 1, shape ``[cells + 1]``.

    >>> from keras_nas_plugin.space.domains import Categorical, Integer
    >>> cell_edges(Categorical(("a", "b"))).tolist()
    [0.0, 0.5, 1.0]
    >>> cell_edges(Integer(1, 3, None, "log")).round(2).tolist()
    [0.0, 0.5, 0.79, 1.0]
    """
    if domain.size is not None and not domain.ordered:
        return np.linspace(0.0, 1.0, domain.size + 1)
    if domain.size is None:
        return np.linspace(0.0, 1.0, most + 1)
    edges, below, before = [0.0], 0.0, domain.at(0.0)
    # Probed at middles: exactly at the edge between two values, rounding would decide.
    for position in (np.arange(most) + 0.5) / most:
        value = domain.at(float(position))
        if value != before:
            edges.append(_first_position(domain, value, below, float(position)))
        below, before = float(position), value
    return np.array([*edges, 1.0])


def _first_position(domain: Domain, value: object, below: float, inside: float) -> float:
    """Smallest position of ``value``, by bisection."""
    while inside - below > 1e-12:
        middle = (below + inside) / 2.0
        if domain.at(middle) == value:
            inside = middle
        else:
            below = middle
    return inside


def cell_features(domain: Domain, edges: np.ndarray) -> np.ndarray:
    """Features of each cell.

    One-hot for an unordered domain. Otherwise cosine waves ``sqrt(2) cos(pi k x)`` at the
    cells' middles, damped by ``exp(-(pi k w)^2 / 2)``: inner products are a Gaussian
    kernel, reflected at both ends, so learning at one position spreads to its neighbours.

    Args:
        domain: Any domain.
        edges: Shape ``[cells + 1]``, see `cell_edges`.

    Returns:
        Shape ``[cells, features]``; without features if there is a single cell.

    >>> from keras_nas_plugin.space.domains import Categorical, Integer
    >>> cell_features(Categorical(("a", "b")), np.array([0.0, 0.5, 1.0])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> cell_features(Integer(1, 2), np.array([0.0, 0.5, 1.0])).round(2).tolist()
    [[0.95], [-0.95]]
    """
    cells = len(edges) - 1
    if cells == 1:
        return np.zeros((1, 0))
    if not domain.ordered:
        return np.eye(cells)
    waves = np.pi * np.arange(1, min(cells - 1, _WAVES) + 1)
    middles = (edges[1:] + edges[:-1]) / 2.0
    damping = np.exp(-0.5 * (waves * _BANDWIDTH) ** 2)
    return math.sqrt(2.0) * np.cos(middles[:, None] * waves) * damping


@dataclasses.dataclass(frozen=True)
class Head:
    """A decision with its cells and features.

    Attributes:
        key: Identifies the decision, also in a space that has grown and in another process.
        decision: The decision.
        edges: Shape ``[cells + 1]``.
        features: Shape ``[cells, features]``.
    """

    key: str
    decision: Decision
    edges: np.ndarray
    features: np.ndarray

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.features)

    @functools.cached_property
    def widths(self) -> np.ndarray:
        """Widths of the cells, shape ``[cells]``."""
        return np.diff(self.edges)

    def cell(self, value: object) -> int:
        """The cell of a valid value."""
        position = self.decision.domain.position(value)
        return min(int(np.searchsorted(self.edges, position, "right")) - 1, self.cells - 1)


class Layout:
    """A space as arrays that are padded to the same shape for all decisions.

    ``K`` decisions, at most ``C`` cells and ``F`` features per decision, ``H`` hidden units.
    Each of several decisions with the same name has a head; the last active one counts, as in
    `SearchSpec`. Heads are in the order of the last decision of each name, when all its
    parents have been chosen.

    Args:
        spec: The space.
        hidden: Units of the fixed layer, at least 1.

    Attributes:
        heads: One for each decision.
        features: Shape ``[K, C, F]``.
        log_mass: Shape ``[K, C]``; minus infinity for padding.
        projection: Shape ``[K, F, H]``, weights of the fixed layer.
    """

    def __init__(self, spec: SearchSpec, hidden: int) -> None:
        last = {decision.name: index for index, decision in enumerate(spec.decisions)}
        self.heads = _heads(sorted(spec.decisions, key=lambda decision: last[decision.name]))
        self._groups: dict[str, list[int]] = {}
        for index, head in enumerate(self.heads):
            self._groups.setdefault(head.decision.name, []).append(index)
        cells = max((head.cells for head in self.heads), default=1)
        width = max((head.features.shape[1] for head in self.heads), default=0)
        self.hidden = hidden
        self.features = np.zeros((len(self.heads), cells, width))
        self.log_mass = np.full((len(self.heads), cells), -np.inf)
        self.projection = np.zeros((len(self.heads), width, hidden))
        for index, head in enumerate(self.heads):
            own = head.features.shape[1]
            self.features[index, : head.cells, :own] = head.features
            self.log_mass[index, : head.cells] = np.log(np.diff(head.edges))
            # Seeded by the decision alone, so that one that is added later changes no other.
            seed = int.from_bytes(hashlib.sha256(head.key.encode()).digest()[:8], "big")
            drawn = np.random.default_rng(seed).normal(0.0, _SPREAD, (own, hidden))
            self.projection[index, :own] = drawn

    @property
    def groups(self) -> Mapping[str, list[int]]:
        """Heads by name, in the order in which the names are chosen."""
        return self._groups

    def active_head(self, group: list[int], chosen: Mapping[str, Any]) -> int | None:
        """The active head of a name, given the active values before it."""
        active = [k for k in group if self.heads[k].decision.active(chosen)]
        return active[-1] if active else None

    def encode(self, values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The cells of a configuration, and which of them were chosen.

        A missing value (the decision was added later) counts as the default when later
        decisions are conditioned on it; but it was not chosen, so nothing is learned from it.

        Args:
            values: Active values.

        Returns:
            Cells, integers of shape ``[K]``, -1 for inactive decisions and invalid values;
            and booleans of shape ``[K]``.
        """
        cells = np.full(len(self.heads), -1)
        scored = np.zeros(len(self.heads), bool)
        chosen: Values = {}
        for name, group in self._groups.items():
            index = self.active_head(group, chosen)
            if index is None:
                continue
            head = self.heads[index]
            chosen[name] = value = values.get(name, head.decision.default)
            if head.decision.domain.contains(value):
                cells[index] = head.cell(value)
                scored[index] = name in values and head.cells > 1
        return cells, scored

    def zero_weights(self) -> Weights:
        """Weights of the initial policy, which is random search."""
        count, _, width = self.features.shape
        return {
            "bias": np.zeros((count, width)),
            "context": np.zeros((count, self.hidden, width)),
            "value_bias": np.zeros(count),
            "value": np.zeros((count, self.hidden)),
        }


def _heads(decisions: list[Decision]) -> list[Head]:
    heads: list[Head] = []
    seen: dict[str, int] = {}
    for decision in decisions:
        text = repr((decision.name, decision.domain, decision.conditions))
        seen[text] = seen.get(text, 0) + 1
        digest = hashlib.sha256(f"{text}{seen[text]}".encode()).hexdigest()[:12]
        edges = cell_edges(decision.domain)
        features = cell_features(decision.domain, edges)
        heads.append(Head(f"{decision.name}#{digest}", decision, edges, features))
    return heads


class Sampler:
    """Draws configurations from a policy.

    Args:
        weights: Weights in the shapes of `Layout.zero_weights`.
        layout: The space.
    """

    def __init__(self, weights: Weights, layout: Layout) -> None:
        self._layout = layout
        # Shapes [K, C] and [K, C, H]: the same for all draws.
        self._bias = np.einsum("kcf,kf->kc", layout.features, weights["bias"])
        self._context = layout.features @ weights["context"].transpose(0, 2, 1)

    def draw(self, rng: np.random.Generator, heat: float = 1.0) -> Values:
        """Draw a configuration: the active values, as plain Python objects.

        Each decision maps one uniform number through its quantile function, so a policy with
        zero weights draws the same as `SearchSpec.sample`, up to rounding.

        Args:
            rng: Source of randomness.
            heat: Temperature: 1 is the policy, infinity the space's own distribution.
        """
        layout = self._layout
        chosen: Values = {}
        prefix = np.zeros(layout.hidden)
        for name, group in layout.groups.items():
            index = layout.active_head(group, chosen)
            if index is None:
                continue
            head, position = layout.heads[index], float(rng.random())
            if head.cells > 1:
                hidden = hidden_units(prefix)
                logits = self._bias[index] + self._context[index] @ hidden
                logits = logits[: head.cells] / heat
                cell, position = _quantile(head.edges, head.widths, logits, position)
                prefix = prefix + layout.features[index, cell] @ layout.projection[index]
            chosen[name] = head.decision.domain.at(position)
        return chosen


def hidden_units(prefix: np.ndarray) -> np.ndarray:
    """The fixed layer, scaled so that the squares of its units sum to less than 1.

    >>> hidden_units(np.zeros(4)).tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    return np.tanh(prefix) / math.sqrt(prefix.shape[-1])


def _quantile(
    edges: np.ndarray, widths: np.ndarray, logits: np.ndarray, uniform: float
) -> tuple[int, float]:
    """Cell and position at a quantile of a density that is constant in each cell.

    >>> _quantile(np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.5]), np.zeros(2), 0.75)
    (1, 0.75)
    """
    share = widths * np.exp(logits - logits.max())
    upper = np.cumsum(share / share.sum())
    cell = min(int(np.searchsorted(upper, uniform, "right")), len(upper) - 1)
    lower = upper[cell - 1] if cell else 0.0
    part = (uniform - lower) / max(upper[cell] - lower, 1e-300)
    position = edges[cell] + min(max(part, 0.0), 1.0) * (edges[cell + 1] - edges[cell])
    # Rounding must not move the position into the next cell.
    return cell, float(min(position, math.nextafter(edges[cell + 1], 0.0)))
