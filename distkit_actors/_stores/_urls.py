"""From the URL of a store to the store."""

from __future__ import annotations

import re
from typing import Final

from ._contract import Store
from ._memory import MemoryStore
from ._schemes import ALL_SCHEMES, USUAL_SCHEMES, named

#: A host and a port, and maybe a database, of which the beginning was forgotten.
_ADDRESS: Final = r"localhost|[\w.-]+:\d+(/\d+)?"
_SCHEME: Final = r"(?i)([a-z+]{1,20})://"
#: What people write in place of one of ours. Anything else before :// might be a secret.
_MISTAKEN: Final = (*ALL_SCHEMES, "memory", "http", "https", "tcp")


def open_store(url: str, *, partitions: int = 1) -> Store:
    """Return the store that ``url`` names; nobody is contacted yet.

    ``partitions`` is as of `RedisStore`.

    ``memory://`` is a new `MemoryStore`; ``redis://``, ``rediss://`` (TLS) and ``unix://``
    name a Redis server, and so do ``valkey://`` and ``valkeys://`` (TLS). ``redis+sentinel://``
    names sentinels, which know the server, and ``redis+cluster://`` nodes of a cluster; see
    `RedisStore`. Raises `ValueError` for anything else.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody checks
        raise TypeError(f"the URL of a store must be a str, not {type(url).__name__}")
    scheme = url.strip().partition(":")[0].lower()
    if scheme in ALL_SCHEMES:
        from ._redis._store import RedisStore  # noqa: PLC0415 - redis-py is slow to import

        return RedisStore(url, partitions=partitions)
    if not url.strip().lower().startswith("memory://"):
        begins = f"the URL of a store begins with {named(USUAL_SCHEMES, 'memory')}"
        raise ValueError(begins + _correction(url.strip()))
    if url.strip().lower() != "memory://":
        raise ValueError("memory:// takes nothing behind it: every such store is a new one")
    return MemoryStore(partitions=partitions)


def _correction(url: str) -> str:
    """Return what to say of a URL that begins wrongly; nothing that may be a secret."""
    if re.fullmatch(_ADDRESS, url):
        return f"; did you mean redis://{url}?"
    if re.fullmatch(r"(?i)memory:?/?", url):
        return "; did you mean memory://?"
    scheme = re.match(_SCHEME, url)
    if scheme is None:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - few need it

    alike = get_close_matches(scheme[1].lower(), _MISTAKEN, n=1, cutoff=0.75)
    return f", not {scheme[0]}" if alike else ""


def checked_store(store: object) -> Store:
    """Return the store that is given or named; raise `TypeError` for anything else."""
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise TypeError(
            "store must be a Store, such as RedisStore(url) or MemoryStore(), or a URL, such as "
            f"'redis://localhost', not {type(store).__name__}"
        )
    return store
