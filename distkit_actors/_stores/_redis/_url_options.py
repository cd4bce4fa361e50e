"""The options that may stand in the URL of a Redis server, and how each is read."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS, SSLConnection

_YES_OR_NO: Final = {
    **dict.fromkeys(("1", "true", "yes", "y", "t", "on"), True),
    **dict.fromkeys(("0", "false", "no", "n", "f", "off"), False),
}


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


class Option(NamedTuple):
    """What an option's value can be."""

    parse: Callable[[str], object]
    wanted: str = "must not be empty"
    secret: bool = False

    def read(self, text: str) -> object | None:
        """Return the value; None if it is none."""
        try:
            return self.parse(text)
        except (ValueError, OverflowError):
            return None


OPTIONS: Final[Mapping[str, Option]] = {
    "client_name": Option(_some_text),
    "db": Option(_number, "must be a number, as in ?db=0"),
    "password": Option(_any_text, secret=True),
    "protocol": Option(_protocol, "must be 2, which is RESP2"),
    "username": Option(_any_text, secret=True),
}
TLS_OPTIONS: Final[Mapping[str, Option]] = {
    "ssl_ca_certs": Option(_some_text, "must be the path of a file"),
    "ssl_ca_data": Option(_some_text),
    "ssl_ca_path": Option(_some_text, "must be the path of a directory"),
    "ssl_cert_reqs": Option(_verification, "must be none, optional or required"),
    "ssl_certfile": Option(_some_text, "must be the path of a file"),
    "ssl_check_hostname": Option(_yes_or_no, "must be true or false"),
    "ssl_ciphers": Option(_some_text),
    "ssl_exclude_verify_flags": Option(_flags, "must be names of ssl.VerifyFlags"),
    "ssl_include_verify_flags": Option(_flags, "must be names of ssl.VerifyFlags"),
    "ssl_keyfile": Option(_some_text, "must be the path of a file"),
    "ssl_min_version": Option(_tls_version, "must be TLSv1.2 or TLSv1.3"),
    "ssl_password": Option(_any_text, secret=True),
}
#: Who we are to the sentinels, of which the rest of the URL says nothing.
SENTINEL_OPTIONS: Final[Mapping[str, Option]] = {
    "sentinel_password": Option(_any_text, secret=True),
    "sentinel_username": Option(_any_text, secret=True),
}
ALL_OPTIONS: Final = {**OPTIONS, **TLS_OPTIONS, **SENTINEL_OPTIONS}
#: An option that this redis-py has no setting for is refused as unknown.
KNOWN_TO_REDIS_PY: Final = frozenset(inspect.signature(SSLConnection).parameters)

#: What other libraries take. They can be named even where a name might be part of a password.
OF_OTHERS: Final = frozenset(URL_QUERY_ARGUMENT_PARSERS) | {
    *("clientName", "database", "decode_responses", "dial_timeout", "encoding", "encoding_errors"),
    *("libraryName", "libraryVersion", "max_retries", "min_idle_conns", "pool_size"),
    *("pool_timeout", "read_timeout", "retry_on_error", "skip_verify", "ssl", "verifyPeer"),
    "write_timeout",
}
