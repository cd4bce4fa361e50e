"""What the URL of a Redis server says, and what is said of one that is no good.

A password with a forgotten escape ends up in any part of a URL. So messages repeat nothing of
it but names of options, and those only where they cannot be a part of a password; and they are
raised where no other error is being handled, as `urllib`'s repeat what they could not read.
"""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import (
    URL_QUERY_ARGUMENT_PARSERS,
    AbstractConnection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import Connection as TcpConnection

from .._schemes import SERVER_SCHEMES, TLS_SCHEMES, named

_ESCAPE: Final = (
    "special characters in a user name, a password or a path must be percent-encoded, '@' as %40"
)
_NO_URL: Final = f"the store's URL must begin with {named(SERVER_SCHEMES[:-1], SERVER_SCHEMES[-1])}"

_DEFAULT_PORT: Final = 6379

_TLS_URLS: Final = [f"{scheme}://" for scheme in TLS_SCHEMES]

#: A name that can be repeated without doing harm to a terminal or a log.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
#: Whoever reads a URL from a file or a variable easily has a line's end in it, and urllib takes
#: those out in silence, of a password too.
_INVISIBLE: Final = re.compile(r"[\x00-\x20\x7f]")

_YES_OR_NO: Final = {
    **dict.fromkeys(("1", "true", "yes", "y", "t", "on"), True),
    **dict.fromkeys(("0", "false", "no", "n", "f", "off"), False),
}


class ServerUrl(NamedTuple):
    """What a URL says."""

    kind: type[AbstractConnection]
    settings: Mapping[str, object]
    """What to make a connection of that kind with."""
    address: str
    """Where it leads, without secrets."""


def _any_text(text: str) -> object:
    return text


def _some_text(text: str) -> object:
    if not text or "\0" in text:
        raise ValueError
    return text


def _number(text: str) -> object:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError
    return int(text)


def _yes_or_no(text: str) -> object:
    if text.lower() not in _YES_OR_NO:
        raise ValueError
    return _YES_OR_NO[text.lower()]


def _verification(text: str) -> object:
    word = text.lower().removeprefix("cert_")  # others say CERT_NONE
    if word not in {"none", "optional", "required"}:
        raise ValueError
    return word


def _protocol(text: str) -> object:
    if text != "2":
        raise ValueError
    return ""  # what is spoken in any case


def _tls_version(text: str) -> object:
    name = text.upper().replace("V", "v").replace(".", "_")
    found = ssl.TLSVersion.__members__.get(name)
    return found or ssl.TLSVersion(int(text))


def _flags(text: str) -> object:
    names = [name.strip() for name in text.strip("[] ").split(",")]
    if not all(name in ssl.VerifyFlags.__members__ for name in names):
        raise ValueError
    return [ssl.VerifyFlags[name] for name in names]


class _Option(NamedTuple):
    parse: Callable[[str], object]
    wanted: str = "must not be empty"
    secret: bool = False

    def read(self, text: str) -> object | None:
        """Return the value; None if it is none."""
        try:
            return self.parse(text)
        except (ValueError, OverflowError):
            return None


_OPTIONS: Final[Mapping[str, _Option]] = {
    "client_name": _Option(_some_text),
    "db": _Option(_number, "must be a number, as in ?db=0"),
    "password": _Option(_any_text, secret=True),
    "protocol": _Option(_protocol, "must be 2, which is RESP2"),
    "username": _Option(_any_text, secret=True),
}
_TLS_OPTIONS: Final[Mapping[str, _Option]] = {
    "ssl_ca_certs": _Option(_some_text, "must be the path of a file"),
    "ssl_ca_data": _Option(_some_text),
    "ssl_ca_path": _Option(_some_text, "must be the path of a directory"),
    "ssl_cert_reqs": _Option(_verification, "must be none, optional or required"),
    "ssl_certfile": _Option(_some_text, "must be the path of a file"),
    "ssl_check_hostname": _Option(_yes_or_no, "must be true or false"),
    "ssl_ciphers": _Option(_some_text),
    "ssl_exclude_verify_flags": _Option(_flags, "must be names of ssl.VerifyFlags"),
    "ssl_include_verify_flags": _Option(_flags, "must be names of ssl.VerifyFlags"),
    "ssl_keyfile": _Option(_some_text, "must be the path of a file"),
    "ssl_min_version": _Option(_tls_version, "must be TLSv1.2 or TLSv1.3"),
    "ssl_password": _Option(_any_text, secret=True),
}
_ALL_OPTIONS: Final = {**_OPTIONS, **_TLS_OPTIONS}
#: What this redis-py has no setting for is refused as what nobody knows.
_KNOWN_TO_REDIS_PY: Final = frozenset(inspect.signature(SSLConnection).parameters)

#: What other libraries take. They can be named even where a name might be part of a password.
_OF_OTHERS: Final = frozenset(URL_QUERY_ARGUMENT_PARSERS) | {
    *("clientName", "database", "decode_responses", "dial_timeout", "encoding", "encoding_errors"),
    *("libraryName", "libraryVersion", "max_retries", "min_idle_conns", "pool_size"),
    *("pool_timeout", "read_timeout", "retry_on_error", "skip_verify", "ssl", "verifyPeer"),
    "write_timeout",
}


def read_url(url: str) -> ServerUrl:
    """Read the URL of a server. Raises `ValueError`."""
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody checks
        raise TypeError(f"the store's URL must be a str, not {type(url).__name__}")
    url = url.strip()
    parts = _split(url)
    if parts is None:
        raise ValueError(
            f"the store's URL cannot be read: the port must be a number from 1 to 65535, and "
            f"{_ESCAPE}"
        )
    if parts.scheme not in SERVER_SCHEMES or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError(_NO_URL)
    if parts.fragment or url.endswith("#"):
        raise ValueError(f"the store's URL takes no '#', and {_ESCAPE}")
    place = _unix(parts) if parts.scheme == "unix" else _tcp(parts)
    settings = {**_named(parts), **place.settings}
    options = _options(parts)
    for name in options.keys() & settings.keys():
        if options[name] != settings[name]:
            raise ValueError(f"the store's URL says {name} twice, and not the same")
    settings = {"db": 0, **settings, **options}
    return ServerUrl(place.kind, settings, f"{place.address} db {settings['db']}")


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
        settings["db"] = _OPTIONS["db"].read(database)
        if settings["db"] is None:
            raise ValueError(
                "the database in the store's URL must be a number, as in redis://host/0 (a '/' "
                "in a password must be percent-encoded)"
            )
    shown = f"[{host}]" if ":" in host else host
    kind = SSLConnection if parts.scheme in TLS_SCHEMES else TcpConnection
    return ServerUrl(kind, settings, f"{parts.scheme}://{shown}:{port}")


def _options(parts: SplitResult) -> dict[str, object]:
    """Read what stands after the question mark."""
    tls = parts.scheme in TLS_SCHEMES
    pairs = _pairs(parts.query)
    for name, text in pairs:
        _check_name(name, parts, {name for name, _ in pairs}, tls=tls, alone=not text)
    options: dict[str, object] = {}
    for name, text in pairs:
        option = _ALL_OPTIONS[name]
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
    if name in _OPTIONS or (tls and name in _TLS_OPTIONS and name in _KNOWN_TO_REDIS_PY):
        return
    allowed = ", ".join(sorted(_OPTIONS))
    if name in _TLS_OPTIONS and not tls:
        raise ValueError(
            f"the option {name} in the store's URL is for {' and '.join(_TLS_URLS)} only"
        )
    if tls:
        allowed += ", " + ", ".join(sorted(_TLS_OPTIONS.keys() & _KNOWN_TO_REDIS_PY))
    # A password with a '?' or a '&' that is not escaped may have its end among the names.
    doubtful = (
        alone
        or "@" in parts.path + parts.query
        or any(option.secret for known, option in _ALL_OPTIONS.items() if known in names)
    )
    advice = ""
    if name.endswith("timeout"):
        advice = "; for the time that an answer may take see RedisStore's response_timeout"
    if name in _OF_OTHERS or (_PLAIN.fullmatch(name) and not doubtful):
        raise ValueError(
            f"the option {name} is none of a store's URL, which can be {allowed}{advice}"
        )
    raise ValueError(f"the options in a store's URL after '?' can be {allowed}, and {_ESCAPE}")
