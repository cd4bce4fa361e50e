"""What is known of a test that hangs.

The stack of its thread shows trio's scheduler, which waits for nobody in particular. What every
task waits for is in the tasks.
"""

import gc
import sys
import threading
from collections.abc import Iterator

import pytest
import trio

#: Seconds between the report and the end of the process by pytest-timeout.
_EARLIER = 5.0

_timer = pytest.StashKey[threading.Timer]()


def describe_tasks() -> Iterator[str]:
    """Yield, line by line, where each task of this process is, in whatever thread."""
    for task in [each for each in gc.get_objects() if isinstance(each, trio.lowlevel.Task)]:
        frames = list(task.iter_await_frames())
        if frames:
            yield f"{task.name}:"
        for frame, line in frames:
            yield f"    {frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}"


def watch_over(item: pytest.Item, seconds: float) -> None:
    """Report on ``item`` shortly before ``seconds`` are over, unless it has ended."""
    timer = threading.Timer(max(0.0, seconds - _EARLIER), _report, [item])
    timer.daemon = True
    item.stash[_timer] = timer
    timer.start()


def watch_no_more(item: pytest.Item) -> None:
    """``item`` has ended."""
    if _timer in item.stash:
        item.stash[_timer].cancel()
        del item.stash[_timer]


def _report(item: pytest.Item) -> None:
    capture = item.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"{item.nodeid} hangs; its tasks:", *describe_tasks(), sep="\n", file=sys.stderr)
