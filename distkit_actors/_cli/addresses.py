"""Which words are the URL of a store, and which were meant to be one. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from .._stores._schemes import ALL_SCHEMES

#: How the URLs of stores begin, also where a slash or the colon was forgotten.
_OUR_SCHEMES: Final = (*ALL_SCHEMES, "memory")
_BEGINNING: Final = re.compile(r"([A-Za-z+]+)(?::/|//)")
#: A host, maybe behind who we are there, maybe with a port and a database.
_PLACE: Final = re.compile(
    r"(?P<who>.*@)?(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?(/\d+)?"
)
#: The ports of Redis and of its sentinels.
_OUR_PORTS: Final = (6379, 26379)
#: Those below are for other services, and are numbers that a name may well end with.
_FIRST_FREE_PORT: Final = 1024
_LAST_PORT: Final = 65_535


def is_url(word: str) -> bool:
    """Return whether ``word`` is a URL, be it right or mistyped."""
    return "://" in word or is_url_of_a_store(word)


def is_url_of_a_store(word: str) -> bool:
    """Return whether ``word`` begins as URLs of stores do."""
    found = _BEGINNING.match(word)
    return found is not None and found[1].lower() in _OUR_SCHEMES


def looks_like_address(word: str) -> bool:
    """Return whether ``word`` looks like the place of a store, and not like a name with a colon.

    That is a host on this machine or with an IP address, whatever its port; any host with a port of
    Redis; and a host with a dot and without ``_``, which names in the DNS do not have, and any port
    that is free for servers.
    """
    found = _PLACE.fullmatch(word)
    if found is None:
        return False
    host, port = found["host"], int(found["port"] or 0)
    if host == "localhost" or _is_ip_address(host):
        return True
    in_dns = "." in host and "_" not in host
    return port in _OUR_PORTS or (in_dns and _FIRST_FREE_PORT <= port <= _LAST_PORT)


def may_tell_a_password(word: str) -> bool:
    """Return whether a password may stand in ``word``, if it was meant as a URL."""
    return "@" in word or "?" in word


def as_url(address: str) -> str:
    """Return the URL that was meant; without who we are there, which may be a secret."""
    who, at, place = address.rpartition("@")
    return f"redis://user:password@{place}" if at and who else f"redis://{place}"


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
