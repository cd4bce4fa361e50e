"""What an operation may ask of a value before it takes effect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ._values import checked_count


@dataclass(frozen=True, slots=True)
class Condition(ABC):
    """A comparison with a number, exact over int64. Use `Eq`, `Ne`, `Lt`, `Le`, `Gt` or `Ge`.

    The store decides it in the same atomic step as the operation that it is for.

    Raises:
        TypeError: ``value`` is no int.
        CounterOverflowError: ``value`` does not fit into 64 bits.
    """

    value: int

    sign: ClassVar[str] = ""
    """Its name on the wire."""

    def __post_init__(self) -> None:
        checked_count(self.value)

    @abstractmethod
    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""


@dataclass(frozen=True, slots=True)
class Eq(Condition):
    """Equal to ``value``."""

    sign: ClassVar[str] = "=="

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current == self.value


@dataclass(frozen=True, slots=True)
class Ne(Condition):
    """Not equal to ``value``."""

    sign: ClassVar[str] = "~="

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current != self.value


@dataclass(frozen=True, slots=True)
class Lt(Condition):
    """Less than ``value``."""

    sign: ClassVar[str] = "<."

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current < self.value


@dataclass(frozen=True, slots=True)
class Le(Condition):
    """Less than ``value``, or equal."""

    sign: ClassVar[str] = "<="

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current <= self.value


@dataclass(frozen=True, slots=True)
class Gt(Condition):
    """Greater than ``value``."""

    sign: ClassVar[str] = ">."

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current > self.value


@dataclass(frozen=True, slots=True)
class Ge(Condition):
    """Greater than ``value``, or equal."""

    sign: ClassVar[str] = ">="

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current >= self.value
