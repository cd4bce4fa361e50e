"""Choice of listening ports for servers that come and go."""

import itertools
import os
import socket
import sys
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"

# Below every system's ephemeral range (Linux 32768+, others 49152+). A client
# that keeps connecting to an ephemeral port nobody listens on can be given
# that same port as its own source port, and then talks to itself while the
# restarted server cannot bind.
_FIRST, _LAST = 20_000, 32_000

# Parallel test processes begin at different places, so that they seldom ask
# for the same port.
_attempts = itertools.count(os.getpid() * 4_999)


# A node of a cluster listens there for other nodes; before version 7 this is not to be chosen.
_BUS = 10_000

# What keeps the ports that were given out, by the port.
_holds: dict[int, ExitStack] = {}


def free_port() -> int:
    """Return a loopback port that nobody else is given before `give_back`.

    Raises:
        OSError: every port of the range is taken.
    """
    return _free_port(_LAST - _FIRST, ())


def free_cluster_port() -> int:
    """Like `free_port`; the port for the bus of a cluster is free and kept, too.

    Raises:
        OSError: every port of the range is taken.
    """
    return _free_port(_LAST - _FIRST - _BUS, (_BUS,))


def give_back(port: int) -> None:
    """Let others have a port that was given out here; any other port does no harm."""
    hold = _holds.pop(port, None)
    if hold is not None:
        hold.close()


def _free_port(size: int, others: tuple[int, ...]) -> int:
    for _ in range(size):
        port = _FIRST + next(_attempts) % size
        with ExitStack() as hold:
            try:
                for offset in (0, *others):
                    hold.enter_context(_holding_socket(port + offset))
            except OSError:
                continue
            # Elsewhere nobody may listen on a port to which another socket is bound.
            if sys.platform == "linux":
                _holds[port] = hold.pop_all()
            return port
    raise OSError(f"no free port between {_FIRST} and {_FIRST + size} on {LOOPBACK}")


def _holding_socket(port: int) -> socket.socket:
    """Return a socket that keeps a port from being given out, and does not listen.

    A server that dies keeps its port by this. On Linux another socket may
    listen on the port, if both reuse addresses, as Redis does. It may not be
    bound by the next `_holding_socket`, which reuses addresses only later.

    Raises:
        OSError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind((LOOPBACK, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def listening_socket(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port.

    Raises:
        OSError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock
