"""How many connections a process may have at once."""

from __future__ import annotations

import resource

#: What a process needs beside the connections that are counted.
_OTHERS = 64


def allow(connections: int) -> int:
    """Raise the limit of open files as far as need be; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - _OTHERS)
