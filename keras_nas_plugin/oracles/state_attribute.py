"""Attributes of an oracle that its `SearchState` has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

_Value = TypeVar("_Value")


class StateAttribute(Generic[_Value]):
    """An attribute of an oracle that is stored in its `SearchState`.

    KerasTuner reads and sets these attributes on the oracle.

    Args:
        name: Name of the attribute of the state.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, oracle: None, owner: type) -> StateAttribute[_Value]: ...

    @overload
    def __get__(self, oracle: NASOracle, owner: type) -> _Value: ...

    def __get__(self, oracle: NASOracle | None, owner: type) -> StateAttribute[_Value] | _Value:
        return self if oracle is None else getattr(oracle._state, self._name)

    def __set__(self, oracle: NASOracle, value: _Value) -> None:
        setattr(oracle._state, self._name, value)
