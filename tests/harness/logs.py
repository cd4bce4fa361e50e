"""What counters have logged."""

from __future__ import annotations

from typing import Any

import pytest


def records(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """Return the records of this package; each has the attributes of its event."""
    return [record for record in caplog.records if record.name == "distkit_actors"]


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, by the words of `docs/observability.md`."""
    return [record.event for record in records(caplog)]
