"""How the URLs of servers begin."""

from __future__ import annotations

from typing import Final

#: Over TCP, and through TLS.
PLAIN_SCHEMES: Final = ("redis", "valkey")
TLS_SCHEMES: Final = ("rediss", "valkeys")
#: Those of one server.
SERVER_SCHEMES: Final = (*PLAIN_SCHEMES, *TLS_SCHEMES, "unix")

CLUSTER: Final = "cluster"
SENTINEL: Final = "sentinel"
#: What may follow the scheme of a server, as in ``redis+sentinel``: which servers it leads to.
TOPOLOGIES: Final = (SENTINEL, CLUSTER)
#: Those of several servers.
TOPOLOGY_SCHEMES: Final = tuple(
    f"{scheme}+{topology}" for topology in TOPOLOGIES for scheme in (*PLAIN_SCHEMES, *TLS_SCHEMES)
)
ALL_SCHEMES: Final = (*SERVER_SCHEMES, *TOPOLOGY_SCHEMES)
#: What messages name of them.
USUAL_SCHEMES: Final = (*SERVER_SCHEMES[:-1], *(f"redis+{name}" for name in TOPOLOGIES), "unix")


def uses_tls(scheme: str) -> bool:
    """Return whether URLs with this scheme lead through TLS."""
    return scheme.partition("+")[0] in TLS_SCHEMES


def topology_of(scheme: str) -> str:
    """Return what stands behind the ``+`` of a scheme; "" if there is none."""
    return scheme.partition("+")[2]


def named(schemes: tuple[str, ...], last: str) -> str:
    """Return schemes and a last one as a text names them."""
    return f"{', '.join(f'{scheme}://' for scheme in schemes)} or {last}://"
