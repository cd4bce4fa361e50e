"""The `transport` fixture: a test that uses it runs over each way to reach the server."""

import pytest

from distkit_actors import RedisStore


@pytest.fixture(params=["trio", "asyncio"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Redis store of the test uses it, unless it is told otherwise."""
    monkeypatch.setitem(RedisStore.__init__.__kwdefaults__, "transport", request.param)
