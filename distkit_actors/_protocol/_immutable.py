"""What immutable values have in common; here they are no dataclasses, for the import's sake.

Python writes and compiles the methods of a dataclass whenever a process defines it. A frozen one
takes 3 million instructions; a class of this kind takes a tenth of a million.
"""

from __future__ import annotations

from typing import ClassVar, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Immutable:
    """A value with fields that never change: equal to one of its own kind with equal fields.

    A subclass names its fields in ``__slots__`` and ``__match_args__``, and puts them in with
    `_put` when it is made. To type checkers it is a frozen dataclass.
    """

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def _put(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _values(self) -> list[object]:
        return [getattr(self, name) for name in self.__match_args__]

    def __eq__(self, other: object) -> bool:
        """Tell whether the other one is of the same kind, and has the same fields."""
        if isinstance(other, Immutable) and type(other) is type(self):
            return self._values() == other._values()
        return NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        fields = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{n}={value!r}' for n, value in fields)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def __replace__(self, **changes: object) -> Self:
        """Do as `copy.replace` asks, which Python has since 3.13."""
        fields = dict(zip(self.__match_args__, self._values(), strict=True))
        return type(self)(**fields | changes)

    # As a frozen dataclass with slots has them, so that pickles are the same.

    def __getstate__(self) -> list[object]:
        return self._values()

    def __setstate__(self, state: list[object]) -> None:
        for name, value in zip(self.__match_args__, state, strict=True):
            self._put(name, value)
