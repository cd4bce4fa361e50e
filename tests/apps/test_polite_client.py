"""`docs/examples/polite_client.py`: two processes, one limit, and SIGTERM for one of them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

import trio

from distkit_actors import Fleet
from tests.apps.applications import PATIENCE, Application, started
from tests.harness.server import RedisServer

LIMIT = 10  # of the example


class Partner:
    """A web server that answers when it is told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []  # the paths asked for
        self.running = self.most = 0
        self.may_answer = trio.Event()
        self._begun = trio.Condition()

    async def serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # it was not willing to wait
            async with stream:
                await self._answer_requests(stream)

    async def _answer_requests(self, stream: trio.SocketStream) -> None:
        while request := await stream.receive_some():
            while not request.endswith(b"\r\n\r\n"):
                request += await stream.receive_some()
            self.seen.append(request.split()[1].decode())
            self.running += 1
            self.most = max(self.most, self.running)
            async with self._begun:
                self._begun.notify_all()
            await self.may_answer.wait()
            self.running -= 1
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the requests that have begun satisfy a condition."""
        async with self._begun:
            while not condition():
                await self._begun.wait()


async def test_what_gets_sigterm_ends_its_requests_begins_none_and_leaves_nothing(
    own_redis: RedisServer,
) -> None:
    partner = Partner()
    with trio.fail_after(PATIENCE):
        async with (
            Fleet.open("polite", own_redis.url) as fleet,
            trio.open_nursery() as nursery,
        ):
            serve = partial(trio.serve_tcp, partner.serve, 0, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            address = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

            def client(name: str) -> AbstractAsyncContextManager[Application]:
                urls = [f"{address}/{name}/{number}" for number in range(30)]
                return started("polite_client.py", *urls, STORE=own_redis.url)

            async with client("first") as first:
                await partner.until(lambda: partner.running == LIMIT)
                [identity] = await fleet.slices("requests")
                async with client("second") as second:
                    while len(await fleet.instances()) < 2:  # noqa: ASYNC110 - nothing tells
                        await trio.sleep(0.01)
                    first.terminate()
                    assert await first.line() == "told to end"
                    assert first.running
                    partner.may_answer.set()
                    assert {await first.line() for _ in range(LIMIT)} == {
                        f"{address}{path} 200" for path in partner.seen if "first" in path
                    }
                    assert await first.wait() == 0
                    assert identity not in await fleet.slices("requests")
                    assert identity not in {info.instance_id for info in await fleet.instances()}

                    assert len({await second.line() for _ in range(30)}) == 30
                    assert await second.wait() == 0
            assert partner.most == LIMIT
            assert len(partner.seen) == LIMIT + 30
            assert await fleet.keys() == []
            assert await fleet.instances() == []
            nursery.cancel_scope.cancel()
