"""Sizes of presets: how many parameters their models have, and spaces that fit the data."""

from __future__ import annotations

import bisect
import concurrent.futures
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Integer
from keras_nas_plugin.space.language.hypermodel import SpaceHyperModel
from keras_nas_plugin.space.presets.tasks import positive
from keras_nas_plugin.space.spec import SearchSpec, Values

#: Trainable parameters per training row of the largest model, where no budget is given.
PARAMETERS_PER_ROW = 100
#: The limit for data with few rows.
FEWEST_PARAMETERS = 50_000

# Options of unordered decisions, from the one with the most parameters to the one with the fewest.
# Among numbers, larger ones have more parameters.
_BY_SIZE = (
    "bottleneck", "basic",
    "sep_conv_5x5", "sep_conv_3x3", "dil_conv_5x5", "dil_conv_3x3",
    "nor_conv_3x3", "nor_conv_1x1",
    "recurrent_attention", "recurrent", "attention", "convolution",
    "LSTM", "GRU",
    "resnet", "mlp",
    "batch", "group",
    "skip_connect", "avg_pool_3x3", "max_pool_3x3", "none",
)  # fmt: skip
# A layer that runs in one direction has all channels instead of half of them.
_FEWER_IF_TRUE = ("bidirectional",)

#: An argument, and a function from its value to a smaller one.
Step = tuple[str, Callable[[Any], Any]]


@dataclasses.dataclass(frozen=True)
class SizeRange:
    """Numbers of trainable parameters of the models of a space.

    Attributes:
        smallest: Of the smallest model.
        first: Of the first architecture that a search tries.
        largest: Of the largest model.
    """

    smallest: int
    first: int
    largest: int

    def __str__(self) -> str:
        """For the documentation.

        >>> print(SizeRange(1_234, 56_789, 12_345_678))
        1.2 k to 12 M (first: 57 k)
        """
        smallest, first, largest = map(_rounded, (self.smallest, self.first, self.largest))
        return f"{smallest} to {largest} (first: {first})"


def _rounded(number: int) -> str:
    """A number with two digits.

    >>> [_rounded(number) for number in (950, 9_960, 12_345, 999_900, 2_530_000)]
    ['950', '10 k', '12 k', '1.0 M', '2.5 M']
    """
    for unit, name in ((10**6, " M"), (10**3, " k")):
        if number >= 0.995 * unit:
            digits = 1 if number < 9.95 * unit else 0
            return f"{number / unit:.{digits}f}{name}"
    return str(number)


def size_range(hypermodel: SpaceHyperModel) -> SizeRange:
    """The numbers of parameters of a preset's models.

    Args:
        hypermodel: What a preset returned.
    """
    spec = hypermodel.spec
    values = (extreme(spec, largest=False), spec.fill({}), extreme(spec, largest=True))
    return SizeRange(*(count(hypermodel, chosen) for chosen in values))


def count(hypermodel: SpaceHyperModel, values: Values) -> int:
    """Number of trainable parameters of a model, of which no weight is created.

    Args:
        hypermodel: A space.
        values: One of its configurations.
    """

    def counted() -> int:
        import keras

        with keras.StatelessScope(initialize_variables=False):
            model = hypermodel.build_values(values)
            return sum(math.prod(weight.shape) for weight in model.trainable_weights)

    # Keras keeps variables that are not initialized, and names of layers, per thread.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(counted).result()


def extreme(spec: SearchSpec, *, largest: bool) -> Values:
    """The configuration of a preset with the most or the fewest parameters.

    Args:
        spec: The space of a preset.
        largest: Whether with the most.
    """
    values: dict[str, Any] = {}
    for decision in spec.decisions:
        if decision.active(values) and isinstance(decision.domain, Categorical | Integer):
            values[decision.name] = _option(decision.name, decision.domain, largest)
    return spec.fill(values)


def _option(name: str, domain: Categorical | Integer, largest: bool) -> Any:
    if isinstance(domain, Integer):
        return domain.high if largest else domain.low
    options = list(domain.choices)
    if name.rpartition("/")[2] in _FEWER_IF_TRUE:
        return not largest if len(options) > 1 else options[0]
    if all(isinstance(option, str) for option in options):
        options.sort(key=lambda option: -_BY_SIZE.index(option) if option in _BY_SIZE else -99)
    else:
        options.sort()
    return options[-1 if largest else 0]


def scaled(
    build: Callable[..., SpaceHyperModel],
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
    steps: Sequence[Step],
    *,
    rows: int | None,
    budget: int | None,
) -> SpaceHyperModel:
    """The hypermodel of a preset, with sizes that fit the data.

    Args:
        build: Makes the hypermodel from the arguments that determine its size.
        defaults: These arguments, where the data do not limit them.
        given: Those that the caller gave, which are not changed; None for the others.
        steps: What to reduce, in this order, until the largest model fits.
        rows: Number of training rows, or None.
        budget: Maximum number of trainable parameters; None for one that follows from ``rows``.

    Returns:
        The largest space whose models all fit.

    Raises:
        SearchSpaceError: No space fits ``budget``, or an argument is invalid.
    """
    fixed = {name: value for name, value in given.items() if value is not None}
    arguments = {**defaults, **fixed}
    if rows is not None:
        positive("rows", rows)
    if budget is not None:
        positive("budget", budget)
    if rows is None and budget is None:
        return build(**arguments)
    limit = budget or max(FEWEST_PARAMETERS, PARAMETERS_PER_ROW * (rows or 0))
    sizes = [arguments]
    for name, reduced in steps:
        value = reduced(sizes[-1][name])
        if name not in fixed and value != sizes[-1][name]:
            sizes.append({**sizes[-1], name: value})
    hypermodels: dict[int, SpaceHyperModel] = {}

    def largest(index: int) -> int:
        hypermodels[index] = build(**sizes[index])
        return count(hypermodels[index], extreme(hypermodels[index].spec, largest=True))

    if largest(0) <= limit:
        return hypermodels[0]
    last = len(sizes) - 1
    chosen = bisect.bisect_left(range(last), True, lo=1, key=lambda i: largest(i) <= limit)
    if chosen == last and budget is not None and largest(last) > budget:
        raise SearchSpaceError(
            f"`budget` must be at least {largest(last):,} parameters for these arguments; got "
            f"{budget:,}"
        )
    return hypermodels[chosen] if chosen in hypermodels else build(**sizes[chosen])


def at_most(limit: float) -> Callable[[Any], Any]:
    """A step that reduces options, a range or a number to values of at most ``limit``.

    >>> at_most(2)((1, 2, 4)), at_most(2)(3), at_most(2)((4, 8))
    ((1, 2), 2, (2,))
    """

    def reduced(value: Any) -> Any:
        if not isinstance(value, Sequence):
            return min(value, limit)
        return tuple(option for option in value if option <= limit) or (limit,)

    return reduced


def up_to(limit: int) -> Callable[[tuple[int, int]], tuple[int, int]]:
    """A step that reduces a minimum and a maximum.

    >>> up_to(2)((1, 4)), up_to(1)((2, 4))
    ((1, 2), (1, 1))
    """
    return lambda value: (min(value[0], limit), min(value[1], limit))


def replaced(value: object) -> Callable[[Any], Any]:
    """A step to another value."""
    return lambda _: value


def halvings(sizes: Sequence[int | None], smallest: int) -> int | None:
    """How often sizes can be halved, rounding up, until one is below ``smallest``.

    >>> halvings((28, 28), 4), halvings((65, None), 2), halvings((None,), 2)
    (3, 6, None)

    Args:
        sizes: Sizes of an image; None for one that varies.
        smallest: The smallest size to be kept.

    Returns:
        The number; None if no size is known.
    """
    fixed = [size for size in sizes if size is not None]
    if not fixed:
        return None
    size, number = min(fixed), 0
    while math.ceil(size / 2) >= smallest:
        size, number = math.ceil(size / 2), number + 1
    return number
