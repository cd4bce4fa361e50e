"""How the URLs of servers begin."""

from __future__ import annotations

from typing import Final

#: Over TCP, and through TLS.
PLAIN_SCHEMES: Final = ("redis", "valkey")
TLS_SCHEMES: Final = ("rediss", "valkeys")
SERVER_SCHEMES: Final = (*PLAIN_SCHEMES, *TLS_SCHEMES, "unix")


def named(schemes: tuple[str, ...], last: str) -> str:
    """Return schemes and a last one as a text names them."""
    return f"{', '.join(f'{scheme}://' for scheme in schemes)} or {last}://"
