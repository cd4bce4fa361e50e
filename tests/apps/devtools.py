"""Driving a headless Chromium by its DevTools protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.apps.chromium import Chromium
from tests.harness.processes import Guard

#: Seconds that Chromium may take to start, and to answer.
_PATIENCE = 60.0

_OPTIONS = (
    "--headless",
    "--remote-debugging-port=0",
    "--no-sandbox",  # root must not have one, and it shows pages of ours only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--font-render-hinting=none",
)

_LOOK = """
new Promise(resolve => {
  const look = () => { const it = (%s); it ? resolve(it) : setTimeout(look, 20) }
  look()
})
"""


_LOADED = "document.readyState == 'complete'"


class BrowserError(Exception):
    """Chromium does not start, refuses a command, or a script in a page failed."""


class Page:
    """One tab."""

    def __init__(self, browser: "Browser", target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    async def call(self, method: str, **parameters: object) -> Any:
        """Run a command of the protocol in this tab."""
        return await self._browser.call(method, self._session, **parameters)

    async def evaluate(self, script: str) -> Any:
        """Return what an expression is, or what its promise comes to.

        Raises:
            BrowserError: it failed.
        """
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def wait_for(self, script: str) -> Any:
        """Wait until an expression is true, and return what it is. Set a deadline around it."""
        return await self.evaluate(_LOOK % script)

    async def resize(self, width: int, height: int) -> None:
        """Look at the page as on a screen of this size, in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def screenshot(self, path: Path) -> None:
        """Write what is seen now to a PNG file."""
        answer = await self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        """Close the tab."""
        await self._browser.call("Target.closeTarget", targetId=self._target)


class Browser:
    """A running Chromium; see `open_browser`."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[trio.Event, dict[str, Any]]] = {}

    async def open_page(self, url: str) -> Page:
        """Open a tab and wait until its page has loaded."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        answer = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, target, answer["sessionId"])
        await page.call("Page.navigate", url=url)
        await page.wait_for(f"location.href != 'about:blank' && {_LOADED}")
        return page

    async def call(self, method: str, session: str | None = None, **parameters: object) -> Any:
        """Run a command of the protocol and return its answer.

        Raises:
            BrowserError: it was refused.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        done, answer = self._waiting[number] = trio.Event(), {}
        try:
            await self._socket.send_message(json.dumps(message))
            await done.wait()
        finally:
            del self._waiting[number]
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

    async def listen(self) -> None:
        """Hand out answers, until the connection is closed."""
        while True:
            try:
                message = json.loads(await self._socket.get_message())
            except ConnectionClosed as error:
                raise BrowserError("Chromium has gone") from error
            if (waiting := self._waiting.get(message.get("id", 0))) is not None:
                done, answer = waiting
                answer.update(message)
                done.set()


@asynccontextmanager
async def open_browser(chromium: Chromium) -> AsyncGenerator[Browser]:
    """Start a Chromium; it ends with the block, and with this process."""
    directory = Path(tempfile.mkdtemp(prefix="chromium-"))
    try:
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - it is quick
                [chromium.executable, *_OPTIONS, f"--user-data-dir={directory}"],
                env={**os.environ, **chromium.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        guard = Guard(process.pid, directory)
        try:
            url = await _address(process, directory)
            async with (
                open_websocket_url(url, max_message_size=2**26) as socket,
                trio.open_nursery() as nursery,
            ):
                browser = Browser(socket)
                nursery.start_soon(browser.listen)
                yield browser
                nursery.cancel_scope.cancel()
        finally:
            guard.dismiss()
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _address(process: "subprocess.Popen[bytes]", directory: Path) -> str:
    """Wait until Chromium listens; return where."""
    written = directory / "DevToolsActivePort"
    with trio.move_on_after(_PATIENCE):
        while process.poll() is None:
            if written.exists() and (text := written.read_text()).count("\n") == 1:
                port, path = text.split("\n")
                return f"ws://127.0.0.1:{port}{path}"
            await trio.sleep(0.01)  # it is said in a file
    log = (directory / "log").read_text(errors="replace")
    raise BrowserError(f"Chromium does not start ({process.poll()})\n{log}")
