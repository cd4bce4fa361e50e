"""What `tests/examples.py` makes of an example that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from sybil import Sybil

from tests.examples import python_parser

PAGE = """
```python
import trio


async def fail():
    raise OSError("not today")


async with trio.open_nursery() as nursery:
    nursery.start_soon(fail)
```
"""


def test_what_fails_in_a_nursery_can_be_reported(tmp_path: Path) -> None:
    """Sybil's own report fails at the exceptions in a group, and the whole run with it."""
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    (example,) = Sybil([python_parser()]).parse(path)
    with pytest.raises(AssertionError, match="OSError: not today"):
        example.evaluate()
