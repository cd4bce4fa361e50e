"""Choice of listening ports for servers that come and go."""

import itertools
import os
import socket

LOOPBACK = "127.0.0.1"

# Below every system's ephemeral range (Linux 32768+, others 49152+). A client
# that keeps connecting to an ephemeral port nobody listens on can be given
# that same port as its own source port, and then talks to itself while the
# restarted server cannot bind.
_FIRST, _LAST = 20_000, 32_000

# Parallel test processes begin at different places, so that they rarely race
# for one port between the probe and the bind.
_attempts = itertools.count(os.getpid() * 4_999)


# A node of a cluster listens there for other nodes; before version 7 this is not to be chosen.
_BUS = 10_000


def free_port() -> int:
    """Return a loopback port that nothing listened on a moment ago.

    Raises:
        OSError: every port of the range is taken.
    """
    return _free_port(_LAST - _FIRST, ())


def free_cluster_port() -> int:
    """Return a free loopback port whose port for the bus of a cluster is free, too.

    Raises:
        OSError: every port of the range is taken.
    """
    return _free_port(_LAST - _FIRST - _BUS, (_BUS,))


def _free_port(size: int, others: tuple[int, ...]) -> int:
    for _ in range(size):
        port = _FIRST + next(_attempts) % size
        try:
            for offset in (0, *others):
                listening_socket(port + offset).close()
        except OSError:
            continue
        return port
    raise OSError(f"no free port between {_FIRST} and {_FIRST + size} on {LOOPBACK}")


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
