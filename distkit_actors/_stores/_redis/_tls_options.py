"""What may be given to a store instead of standing in its URL: how it speaks TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypedDict, cast

from .._schemes import TLS_SCHEMES, uses_tls
from ._url_options import KNOWN_TO_REDIS_PY, TLS_OPTIONS

#: The URLs that they are for.
TLS_URLS: Final = " and ".join(f"{scheme}://" for scheme in TLS_SCHEMES)


class TlsOptions(TypedDict, total=False):
    """Options of TLS, as redis-py has them, for `RedisStore` and functions that pass them on.

    Each may stand in the URL instead.
    """

    ssl_ca_certs: str
    """Path of a file with the certificates of authorities."""
    ssl_ca_data: str
    """The same certificates, as text."""
    ssl_ca_path: str
    """Path of a directory with them."""
    ssl_cert_reqs: Literal["none", "optional", "required"]
    """Whether the server must have a certificate that holds; it must."""
    ssl_certfile: str
    """Path of the own certificate."""
    ssl_check_hostname: bool
    """Whether that of the server must be of the host in the URL; it must."""
    ssl_ciphers: str
    """Ciphers that may be used, in OpenSSL's words."""
    ssl_exclude_verify_flags: Iterable[ssl.VerifyFlags]
    """What need not be checked."""
    ssl_include_verify_flags: Iterable[ssl.VerifyFlags]
    """What has to be checked, too."""
    ssl_keyfile: str
    """Path of the key of the own certificate."""
    ssl_min_version: ssl.TLSVersion
    """The oldest version of TLS."""
    ssl_password: str
    """Of that key."""


TlsOptions.__module__ = "distkit_actors"  # which imports it when it is asked for


def read_tls_options(scheme: str, given: Mapping[str, object]) -> dict[str, object]:
    """Read the options that are no part of a URL with this scheme.

    Raises `TypeError` for what is no option, and `ValueError` for what it cannot be.
    """
    options: dict[str, object] = {}
    for name, value in given.items():
        if name not in TLS_OPTIONS.keys() & KNOWN_TO_REDIS_PY:
            raise TypeError(f"RedisStore() got an unexpected keyword argument {name!r}")
        if not uses_tls(scheme):
            raise ValueError(f"{name} is for {TLS_URLS} only")
        option, text = TLS_OPTIONS[name], _as_text(value)
        found = None if text is None else option.read(text)
        if found is None:
            raise ValueError(f"{name} {option.wanted}")
        options[name] = found
    return {name: value for name, value in options.items() if value != ""}


def _as_text(value: object) -> str | None:
    """Return what stands in a URL for a value; None for what cannot."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, ssl.TLSVersion):
        return value.name
    if isinstance(value, Iterable):
        flags = list(cast("Iterable[object]", value))
        if all(isinstance(flag, ssl.VerifyFlags) for flag in flags):
            return ",".join(cast("ssl.VerifyFlags", flag).name or "" for flag in flags)
    return None
