"""How a statement is timed that takes nanoseconds."""

from __future__ import annotations

import timeit
from collections.abc import Mapping

#: So many copies stand in the loop's body, so that the loop itself is not what is measured.
_COPIES = 20


class Statement:
    """A statement, timed in a loop.

    Args:
        source: The statement.
        names: What it uses; they are locals where it runs.
    """

    def __init__(self, source: str, names: Mapping[str, object]) -> None:
        setup = "; ".join(f"{name} = {name}_" for name in names) or "pass"
        self._timer = timeit.Timer(
            "; ".join([source] * _COPIES),
            setup,
            globals={f"{name}_": value for name, value in names.items()},
        )

    def nanoseconds(self, calls: int) -> float:
        """Run it about ``calls`` times, and return how long one took."""
        loops = max(1, calls // _COPIES)
        return self._timer.timeit(loops) / (loops * _COPIES) * 1e9
