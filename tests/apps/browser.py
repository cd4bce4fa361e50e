"""The page of `docs/examples/online` in a Chromium; `make test-browser` runs it."""

import os
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from distkit_actors import Fleet, InstanceInfo
from tests.apps.applications import PATIENCE, started
from tests.apps.chromium import find_chromium
from tests.apps.devtools import Browser, Page, open_browser
from tests.harness.server import RedisServer

THRESHOLD, BEAT = 3.0, 1.0  # of the example
#: Seconds after which a killed worker has gone: two thresholds and three beats.
BOUND = 2 * THRESHOLD + 3 * BEAT
MOST_TABS = 40

#: What a tab shows: the total, and the workers' names and shares as an object.
SHOWN = """({
  total: +document.getElementById("total").textContent,
  shares: Object.fromEntries([...document.querySelectorAll("dt")].map(
    dt => [dt.textContent, +dt.nextElementSibling.nextElementSibling.textContent]))
})"""


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    async with open_browser(find_chromium()) as browser:
        yield browser


async def shows(page: Page, condition: str) -> dict[str, int]:
    """Wait until what a tab shows, ``it``, satisfies a condition; return the shares."""
    shown = await page.wait_for(
        f"(it => ({condition}) && !document.body.classList.contains('stale') && it)({SHOWN})"
    )
    shares: dict[str, int] = shown["shares"]
    return shares


def adds_up_to(total: int, workers: int) -> str:
    return (
        f"it.total == {total} && Object.keys(it.shares).length == {workers}"
        f" && Object.values(it.shares).reduce((a, b) => a + b, 0) == {total}"
    )


async def picture(page: Page, name: str, width: int, height: int) -> None:
    """Keep a screenshot, if somebody wants it."""
    await page.resize(width, height)
    assert await page.evaluate("document.scrollingElement.scrollWidth") <= width
    if directory := os.environ.get("DISTKIT_SCREENSHOTS"):
        await page.screenshot(Path(directory) / f"{name}.png")


async def test_tabs_on_several_workers_see_who_is_online_and_a_killed_worker_goes(
    browser: Browser, own_redis: RedisServer
) -> None:
    async with (
        Fleet.open("online", own_redis.url) as fleet,
        started("online", "--port", "0", STORE=own_redis.url) as app,
    ):

        async def workers() -> dict[str | None, InstanceInfo]:
            return {info.label: info for info in await fleet.instances()}

        with trio.fail_after(PATIENCE):
            url = await app.line()
            tabs = [await browser.open_page(url)]
            shares = await shows(tabs[0], adds_up_to(1, 3))
            # Which worker takes a connection is for the system to say.
            while len(tabs) < 7 or not all(shares.values()):
                assert len(tabs) < MOST_TABS
                tabs.append(await browser.open_page(url))
                shares = await shows(tabs[-1], adds_up_to(len(tabs), 3))
            for tab in tabs:
                assert await shows(tab, adds_up_to(len(tabs), 3)) == shares
            names = {name: info.instance_id for name, info in (await workers()).items()}
            slices = await fleet.slices("online")
            assert {name: slices[who] for name, who in names.items()} == shares
            await picture(tabs[0], "online-desktop", 960, 500)
            await picture(tabs[0], "online-phone", 390, 500)

        with trio.fail_after(PATIENCE):
            await tabs.pop().close()
            for tab in tabs:
                await shows(tab, adds_up_to(len(tabs), 3))

        # Its tabs connect to the others. Until it is taken for dead they are counted twice.
        victim = (await workers())["worker 2"]
        assert victim.pid is not None
        killed = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        with trio.fail_after(BOUND + PATIENCE / 4):
            for tab in tabs:
                assert "worker 2" not in await shows(tab, adds_up_to(len(tabs), 2))
        print(f"\nworker 2 had gone from {len(tabs)} tabs {time.monotonic() - killed:.1f} s later")

        with trio.fail_after(PATIENCE):
            assert await app.stop() == 0
        assert await fleet.instances() == []
        assert await fleet.keys() == []


async def test_one_command_brings_its_own_store(browser: Browser) -> None:
    with trio.fail_after(PATIENCE):
        begun = time.monotonic()
        async with started("online", "--port", "0", "--workers", "2") as app:
            page = await browser.open_page(await app.line())
            await shows(page, "it.total == 1")
            print(f"\nfrom the command to the page: {time.monotonic() - begun:.1f} s")
            await shows(page, adds_up_to(1, 2))
            assert await app.stop() == 0
            await page.wait_for("document.body.classList.contains('stale')")
