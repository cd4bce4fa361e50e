"""What an operation may ask of a value before it takes effect."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final, final

from ._immutable import Immutable
from ._values import checked_count

_NO_OTHERS: Final = "a condition is Eq, Ne, Lt, Le, Gt or Ge: a store knows no others"


class Condition(Immutable, ABC):
    """A comparison with a number, exact over int64. Use `Eq`, `Ne`, `Lt`, `Le`, `Gt` or `Ge`.

    The store decides it in the same atomic step as the operation that it is for. It knows these
    six, so there are no others: whoever makes a subclass gets `TypeError`.

    Raises:
        TypeError: ``value`` is no int.
        CounterOverflowError: ``value`` does not fit into 64 bits.
    """

    __slots__ = __match_args__ = ("value",)

    value: int
    """What the current value is compared with; fits into 64 bits."""

    sign: ClassVar[str] = ""
    """Its name on the wire."""

    def __init_subclass__(cls) -> None:
        """Refuse a subclass from elsewhere: no store would know it."""
        if cls.__module__ != __name__:
            raise TypeError(_NO_OTHERS)

    def __init__(self, value: int) -> None:
        checked_count(value)
        self._put("value", value)

    @abstractmethod
    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""


@final
class Eq(Condition):
    """Equal to ``value``."""

    __slots__ = ()

    sign: ClassVar[str] = "=="
    """Its name on the wire."""

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current == self.value


@final
class Ne(Condition):
    """Not equal to ``value``."""

    __slots__ = ()

    sign: ClassVar[str] = "~="
    """Its name on the wire."""

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current != self.value


@final
class Lt(Condition):
    """Less than ``value``."""

    __slots__ = ()

    sign: ClassVar[str] = "<."
    """Its name on the wire."""

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current < self.value


@final
class Le(Condition):
    """Less than ``value``, or equal."""

    __slots__ = ()

    sign: ClassVar[str] = "<="
    """Its name on the wire."""

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current <= self.value


@final
class Gt(Condition):
    """Greater than ``value``."""

    __slots__ = ()

    sign: ClassVar[str] = ">."
    """Its name on the wire."""

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current > self.value


@final
class Ge(Condition):
    """Greater than ``value``, or equal."""

    __slots__ = ()

    sign: ClassVar[str] = ">="
    """Its name on the wire."""

    def holds(self, current: int) -> bool:
        """Tell whether ``current`` is as it should be."""
        return current >= self.value


_KNOWN: Final = frozenset({Eq, Ne, Lt, Le, Gt, Ge})


def checked_condition(condition: object) -> Condition:
    """Return ``condition`` if it is one. Raises `TypeError`."""
    if not isinstance(condition, Condition):
        raise TypeError(f"a condition such as Lt(10) is needed, not {condition!r}")
    if type(condition) not in _KNOWN:  # registered with the abstract class, as Python allows
        raise TypeError(f"{_NO_OTHERS}, and not {type(condition).__name__}")
    return condition
