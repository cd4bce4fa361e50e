"""What the URL of a Redis server says, and what is said of one that is no good.

A password with a forgotten escape ends up in any part of a URL. So messages repeat nothing of
it but names of options, and those only where they cannot be a part of a password; and they are
raised where no other error is being handled, as `urllib`'s repeat what they could not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection as TcpConnection

from .._schemes import (
    ALL_SCHEMES,
    CLUSTER,
    SENTINEL,
    TLS_SCHEMES,
    USUAL_SCHEMES,
    named,
    topology_of,
    uses_tls,
)
from ._survey import Node
from ._tls_options import TLS_URLS, read_tls_options
from ._url_options import (
    ALL_OPTIONS,
    KNOWN_TO_REDIS_PY,
    OF_OTHERS,
    OPTIONS,
    SENTINEL_OPTIONS,
    TLS_OPTIONS,
)

_ESCAPE: Final = (
    "special characters in a user name, a password or a path must be percent-encoded, '@' as %40"
)
_NOT_READ: Final = (
    f"the store's URL cannot be read: the port must be a number from 1 to 65535, and {_ESCAPE}"
)
_NO_URL: Final = f"the store's URL must begin with {named(USUAL_SCHEMES[:-1], USUAL_SCHEMES[-1])}"

_DEFAULT_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

#: A name that can be repeated without doing harm to a terminal or a log.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
#: A URL from a file or a variable easily has a line's end in it, which urllib removes in silence,
#: even from a password.
_INVISIBLE: Final = re.compile(r"[\x00-\x20\x7f]")


class ServerUrl(NamedTuple):
    """What a URL says."""

    kind: type[AbstractConnection]
    settings: Mapping[str, object]
    """What to make a connection of that kind with."""
    address: str
    """Where it leads, without secrets."""
    nodes: Sequence[Node] = ()
    """The sentinels, or nodes of the cluster; none if the settings say where the server is."""
    service: str = ""
    """What the sentinels call it."""
    to_sentinels: Mapping[str, object] = {}
    """What to make a connection to a sentinel with, but for where it is."""


def read_url(url: str, tls: Mapping[str, object] | None = None) -> ServerUrl:
    """Read the URL of a server, and the options of TLS that are given beside it.

    Raises `TypeError` or `ValueError`.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody checks
        raise TypeError(f"the store's URL must be a str, not {type(url).__name__}")
    url, hosts = _one_host(url.strip())
    parts = _split(url)
    if parts is None:
        raise ValueError(_NOT_READ)
    if parts.scheme not in ALL_SCHEMES or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError(_NO_URL)
    if parts.fragment or url.endswith("#"):
        raise ValueError(f"the store's URL takes no '#', and {_ESCAPE}")
    if parts.scheme == "unix":
        place = _unix(parts)
    elif topology_of(parts.scheme) == CLUSTER:
        place = _cluster(parts, hosts)
    elif topology_of(parts.scheme) == SENTINEL:
        place = _sentinels(parts, hosts)
    else:
        place = _tcp(parts)
    settings = {**_named(parts), **place.settings}
    options = _options(parts)
    of_sentinels = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in SENTINEL_OPTIONS
        if name in options
    }
    for name, value in read_tls_options(parts.scheme, tls or {}).items():
        if options.setdefault(name, value) != value:
            raise ValueError(f"the store's URL says {name}, too, and not the same")
    for name in options.keys() & settings.keys():
        if options[name] != settings[name]:
            raise ValueError(f"the store's URL says {name} twice, and not the same")
    settings = {"db": 0, **settings, **options}
    if topology_of(parts.scheme) == CLUSTER and settings["db"]:
        raise ValueError("the store's URL must name no database but 0, as a cluster has no other")
    own = ("db", "host", "password", "port", "username")
    return place._replace(
        settings=settings,
        address=f"{place.address} db {settings['db']}",
        to_sentinels={**{n: v for n, v in settings.items() if n not in own}, **of_sentinels},
    )


def _one_host(url: str) -> tuple[str, list[str]]:
    """Return a URL with one host in place of all that may stand in it, and those."""
    scheme, mark, rest = url.partition("://")
    if not topology_of(scheme):
        return url, []
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    named, at, hosts = authority.rpartition("@")
    return f"{scheme}{mark}{named}{at}host{rest[len(authority) :]}", hosts.split(",")


def _split(url: str) -> SplitResult | None:
    """Take a URL apart; None if that cannot be done without doubt."""
    if _INVISIBLE.search(url):
        return None
    try:
        url.encode()
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts


def _decoded(text: str) -> str:
    """Take the percent signs out. Raises `ValueError`."""
    try:
        return unquote(text, errors="strict")
    except UnicodeError:
        pass  # it has the text in it
    raise ValueError("the store's URL is not UTF-8")


def _named(parts: SplitResult) -> dict[str, object]:
    """Return who we are, as it stands in front of the host."""
    named = {"username": parts.username, "password": parts.password}
    return {name: _decoded(text) for name, text in named.items() if text}


def _unix(parts: SplitResult) -> ServerUrl:
    path = _decoded(parts.path)
    if parts.netloc.rpartition("@")[2] or not path.strip("/"):
        raise ValueError(
            "the store's URL needs the full path of a socket, with three slashes: unix:///path"
        )
    if "@" in parts.path or "\0" in path:
        raise ValueError(f"the path in the store's URL cannot be one: {_ESCAPE}")
    return ServerUrl(UnixDomainSocketConnection, {"path": path}, f"unix://{parts.path}")


def _tcp(parts: SplitResult) -> ServerUrl:
    host = _decoded(parts.hostname or "localhost")
    if _INVISIBLE.search(host):
        raise ValueError(f"the host in the store's URL cannot be one: {_ESCAPE}")
    port = parts.port or _DEFAULT_PORT
    settings: dict[str, object] = {"host": host, "port": port}
    database = parts.path.strip("/")
    if database:
        settings["db"] = _database(database)
    shown = f"[{host}]" if ":" in host else host
    kind = SSLConnection if parts.scheme in TLS_SCHEMES else TcpConnection
    return ServerUrl(kind, settings, f"{parts.scheme}://{shown}:{port}")


def _cluster(parts: SplitResult, hosts: list[str]) -> ServerUrl:
    nodes = [_node(host, _DEFAULT_PORT) for host in hosts]
    settings: dict[str, object] = {"host": nodes[0].host, "port": nodes[0].port}
    if database := parts.path.strip("/"):
        settings["db"] = _database(database)
    kind = SSLConnection if uses_tls(parts.scheme) else TcpConnection
    return ServerUrl(kind, settings, f"{parts.scheme}://{','.join(map(str, nodes))}", nodes)


def _sentinels(parts: SplitResult, hosts: list[str]) -> ServerUrl:
    nodes = [_node(host, _SENTINEL_PORT) for host in hosts]
    service, *databases = parts.path.removeprefix("/").rstrip("/").split("/")
    if not service or "@" in parts.path or len(databases) > 1:
        raise ValueError(
            "the store's URL needs the name that the sentinels have for the service, as in "
            f"redis+sentinel://host1,host2/service, or .../service/0 for a database, and {_ESCAPE}"
        )
    settings: dict[str, object] = {"host": nodes[0].host, "port": nodes[0].port}
    if databases:
        settings["db"] = _database(databases[0])
    kind = SSLConnection if uses_tls(parts.scheme) else TcpConnection
    shown = f"{parts.scheme}://{','.join(map(str, nodes))}/{service}"
    return ServerUrl(kind, settings, shown, nodes, _decoded(service))


def _node(text: str, default_port: int) -> Node:
    parts = _split(f"//{text}")
    if parts is None:
        raise ValueError(_NOT_READ)
    host = _decoded(parts.hostname or "")
    if not host or _INVISIBLE.search(host):
        raise ValueError(f"the store's URL has a host that cannot be one: {_ESCAPE}")
    return Node(host, parts.port or default_port)


def _database(text: str) -> object:
    number = OPTIONS["db"].read(text)
    if number is None:
        raise ValueError(
            "the database in the store's URL must be a number, as in redis://host/0 (a '/' "
            "in a password must be percent-encoded)"
        )
    return number


def _options(parts: SplitResult) -> dict[str, object]:
    """Read what stands after the question mark."""
    tls = uses_tls(parts.scheme)
    pairs = _pairs(parts.query)
    for name, text in pairs:
        _check_name(name, parts, {name for name, _ in pairs}, tls=tls, alone=not text)
    options: dict[str, object] = {}
    for name, text in pairs:
        option = ALL_OPTIONS[name]
        if name in options:
            raise ValueError(f"the option {name} stands twice in the store's URL")
        options[name] = option.read(text)
        if options[name] is None:
            raise ValueError(f"the option {name} in the store's URL {option.wanted}")
    # An empty password is none, as it is in front of the host.
    return {name: value for name, value in options.items() if value != ""}


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeError:
        pass  # it has the text in it
    raise ValueError("the store's URL is not UTF-8")


def _check_name(name: str, parts: SplitResult, names: set[str], *, tls: bool, alone: bool) -> None:
    """Refuse what is no option of ours."""
    known = set(OPTIONS)
    if tls:
        known |= TLS_OPTIONS.keys() & KNOWN_TO_REDIS_PY
    if topology_of(parts.scheme) == SENTINEL:
        known |= SENTINEL_OPTIONS.keys()
    if name in known:
        return
    if name in TLS_OPTIONS and not tls:
        raise ValueError(f"the option {name} in the store's URL is for {TLS_URLS} only")
    if name in SENTINEL_OPTIONS:
        raise ValueError(f"the option {name} in the store's URL is for redis+sentinel:// only")
    allowed = ", ".join(sorted(known))
    # A password with a '?' or a '&' that is not escaped may have its end among the names.
    doubtful = (
        alone
        or "@" in parts.path + parts.query
        or any(option.secret for one, option in ALL_OPTIONS.items() if one in names)
    )
    advice = ""
    if name.endswith("timeout"):
        advice = "; for the time that an answer may take see RedisStore's response_timeout"
    elif name in ("partitions", "min_replicas"):
        advice = f"; write RedisStore(url, {name}=…)"
    if name in OF_OTHERS or (_PLAIN.fullmatch(name) and not doubtful):
        raise ValueError(
            f"the option {name} is none of a store's URL, which can be {allowed}{advice}"
        )
    raise ValueError(f"the options in a store's URL after '?' can be {allowed}, and {_ESCAPE}")
