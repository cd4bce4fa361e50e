"""How much work something is, counted and not timed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def effort(work: Callable[[], object]) -> int:
    """Return how many instructions of Python it takes.

    A loop inside a function of C counts as one, so what is to be found is made of Python, or has to
    be looked at in another way.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:  # type: ignore[explicit-any]
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # Hypothesis has functions called when it collects, which would count, too
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return count
