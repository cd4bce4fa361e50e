"""Whether a server is one that keeps counts."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from ..._errors import StoreError
from ._connection import Answer, ErrorReplyError
from ._error_lines import NO_COMMAND

_OLDEST: Final = (6, 2)


class Caller(Protocol):
    """A connection, or a lane on one."""

    async def call(self, *words: bytes, patience: float | None = None) -> Answer: ...


class ServerInfo(NamedTuple):
    """What a server says of itself."""

    standalone: bool  # it belongs to no cluster
    tells: bool  # it may be asked for more


async def check_server(connection: Caller, patience: float) -> ServerInfo:
    """Refuse a server that would lose counts, as far as we may ask."""
    try:
        server = await _info(connection, b"server", patience)
        policy = await eviction_policy(connection, patience)
    except ErrorReplyError as error:
        if error.code is not None:
            raise
        return ServerInfo(standalone=False, tells=False)  # something in front of it  # noqa: ASYNC910 - internal: callers make the checkpoint
    version = server.get("redis_version", "")
    if version and tuple(int(n) for n in version.split(".")[:2] if n.isdigit()) < _OLDEST:
        raise StoreError(f"Redis {version} is too old: version 6.2 or newer is needed")
    evicts = eviction(policy or "")
    if evicts is not None:
        raise StoreError(evicts)
    modes = server.get("redis_mode"), server.get("server_mode")  # Valkey's name
    return ServerInfo(standalone="standalone" in modes, tells=True)


async def eviction_policy(connection: Caller, patience: float) -> str | None:
    """Return which keys the server may evict; None if it does not tell us."""
    return (await _info(connection, b"memory", patience)).get("maxmemory_policy")


def eviction(policy: str) -> str | None:
    """Return what is wrong if a server with this policy may evict our keys."""
    if not policy.startswith("allkeys-"):
        return None
    return (
        f"Redis is configured to evict any key when memory is short (maxmemory-policy "
        f"{policy}), and so would lose counts unnoticed: use noeviction or volatile-…"
    )


async def _info(connection: Caller, section: bytes, patience: float) -> dict[str, str]:
    try:
        answer = await connection.call(b"INFO", section, patience=patience)
    except ErrorReplyError as error:
        if error.code in {NO_COMMAND, "NOPERM"}:
            return {}  # it does not tell us, or not everybody  # noqa: ASYNC910 - internal: callers make the checkpoint
        raise
    # A server tells where its files are, too, and their names may be any bytes.
    lines = answer.decode(errors="replace").splitlines() if isinstance(answer, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)
