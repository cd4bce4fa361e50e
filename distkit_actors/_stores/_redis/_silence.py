"""How long a connection may bring nothing until it is taken for dead.

Those who use a connection have different patience. The least patient one must not end it for all,
again and again, while the server is slow: then nobody would ever have an answer. So after each loss
by silence the next connection may be silent for longer, until an answer comes in good time.
"""

from __future__ import annotations

from typing import Final

#: A connection is silent if it has brought nothing for this part of somebody's patience.
_PART: Final = 0.5
#: The longest time that it may be silent, in times of the usual patience.
_MOST: Final = 8


class Silence:
    """What the connections to one server have taught. Times are seconds.

    Args:
        patience: How long an answer may take, usually.
    """

    def __init__(self, patience: float) -> None:
        self._usual = patience
        self.least = 0.0  # it must have lasted for so long

    def is_dead(self, waited: float, patience: float) -> bool:
        """Tell one whose ``patience`` is over if a connection is dead that owes answers.

        It has brought none for the ``waited`` seconds. If it is, it is to be closed.
        """
        if waited < max(_PART * patience, self.least):
            return False
        self.least = min(2 * max(patience, self.least), _MOST * self._usual)
        return True

    def heard(self, waited: float) -> None:
        """Note that an answer has come so many seconds after its command."""
        if waited <= _PART * self._usual:
            self.least = 0.0
