"""A process with a blocking socket: ``run COMMANDS`` sends HINCRBY as fast as the server goes.

Arguments: host, port, and how many commands travel together. Two such loads are always on
their way, so that the server never waits for this process.
"""

from __future__ import annotations

import socket
import sys
import time

from benchmarks.children.speech import questions, say
from benchmarks.peers.resp import pack


def main(host: str, port: str, depth: str) -> None:
    """Answer until the parent has no more questions."""
    load = pack("HINCRBY", "ceiling", "key000000", 1) * int(depth)
    with socket.create_connection((host, int(port))) as connection:
        say(ready=1)
        for _, commands in questions():
            loads = max(2, int(commands) // int(depth))
            start = time.perf_counter()
            _run(connection, load, int(depth), loads)
            say(rate=loads * int(depth) / (time.perf_counter() - start))


def _run(connection: socket.socket, load: bytes, depth: int, loads: int) -> None:
    connection.sendall(load)
    answers = 0
    for number in range(1, loads + 1):
        if number < loads:
            connection.sendall(load)
        while answers < number * depth:
            received = connection.recv(65_536)
            if not received:
                raise ConnectionError("the server has closed the connection")
            answers += received.count(b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
