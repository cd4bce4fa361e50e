"""Why a connection failed, in words that say what to do about it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.exceptions import InvalidResponse

from ..._errors import StoreError

#: How much of a secret may be repeated: whoever knows two characters knows nothing.
_TELLING: Final = 3

#: What OpenSSL says, and what that comes from.
_TLS_ADVICE: Final = {
    "hostname mismatch": "the certificate is for another name: use its name in the URL, or "
    "?ssl_check_hostname=false",
    "ip address mismatch": "the certificate is for another address: use its name in the URL, or "
    "?ssl_check_hostname=false",
    "unable to get": "nobody we trust has signed the certificate: name its authority's "
    "certificate with ?ssl_ca_certs=path",
    "self-signed": "nobody we trust has signed the certificate: name its authority's "
    "certificate with ?ssl_ca_certs=path",
    "self signed": "nobody we trust has signed the certificate: name its authority's "
    "certificate with ?ssl_ca_certs=path",
    "expired": "the certificate is too old: renew it, or set the clock",
    "certificate required": "the server wants a certificate of ours: name it with "
    "?ssl_certfile=path&ssl_keyfile=path",
    "handshake failure": "the server may want a certificate of ours: name it with "
    "?ssl_certfile=path&ssl_keyfile=path",
    "unknown ca": "the server does not trust our certificate: see ssl_certfile",
    "wrong version number": "what answers there does not speak TLS: should it be redis://?",
    "record layer failure": "what answers there does not speak TLS: should it be redis://?",
    "packet length too long": "what answers there does not speak TLS: should it be redis://?",
}

#: What the settings of redis-py's TLS context call their files, and what a URL does.
_FILES: Final = {
    "ca_certs": "ssl_ca_certs",
    "ca_path": "ssl_ca_path",
    "certfile": "ssl_certfile",
    "keyfile": "ssl_keyfile",
}
#: The same of all that can be wrong.
_NAMES: Final = {
    **_FILES,
    "ca_data": "ssl_ca_data",
    "ciphers": "ssl_ciphers",
    "min_version": "ssl_min_version",
    "password": "ssl_password",
}


def reason(error: BaseException) -> str:
    """Say why something failed: often only a cause of a cause knows it."""
    chain = list(_chain(error))
    for one in chain:
        text = str(one)
        if isinstance(one, ssl.SSLError):
            said = text.lower().replace("_", " ")
            advice = next((a for sign, a in _TLS_ADVICE.items() if sign in said), None)
            return f"{advice} ({text})" if advice else text
        if isinstance(one, hiredis.ProtocolError | InvalidResponse):
            return (
                "what answers there does not speak Redis' protocol: check the port, and whether "
                f"it expects TLS, which is rediss:// or valkeys:// ({text})"
            )
    for one in reversed(chain):
        if isinstance(one, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", one)
            return "; ".join(dict.fromkeys(reason(member) for member in group.exceptions))
        if str(one):
            return str(one)
    return type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def repeats(text: str, secrets: tuple[str, ...]) -> bool:
    """Tell whether ``text`` has a part of a secret in it."""
    return any(
        secret[start : start + _TELLING] in text
        for secret in secrets
        for start in range(len(secret) - _TELLING + 1)
    )


def tells(error: BaseException, secrets: tuple[str, ...]) -> bool:
    """Tell whether an error, or what it came from, has a part of a secret in it."""
    if not secrets:
        return False
    for one in _chain(error):
        if repeats(f"{one} {one!r} {one.__dict__!r}", secrets):
            return True
        if isinstance(one, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", one)
            if any(tells(member, secrets) for member in group.exceptions):
                return True
    return False


def check_tls(settings: AbstractConnection) -> None:
    """See that the TLS settings can be used. Raises `StoreError`.

    Only now, as files may be replaced while a program runs, and be made after it has started.
    """
    if not isinstance(settings, SSLConnection):
        return
    context = settings.ssl_context
    trouble: str | None = None
    try:
        context.get()  # pyright: ignore[reportUnknownMemberType]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError, and names no file
        trouble = str(error)
        names = {option: getattr(context, name, None) for name, option in _FILES.items()}
        for option, path in names.items():
            if path and (wrong := _unreadable(str(path))):
                trouble = f"{option}={path}: {wrong}"
                break
        else:
            given = [option for name, option in _NAMES.items() if getattr(context, name, None)]
            trouble = f"one of {', '.join(given)}: {trouble}" if given else trouble
    if trouble is not None:
        raise StoreError(f"the TLS settings in the store's URL cannot be used: {trouble}")


def _unreadable(path: str) -> str | None:
    try:
        if Path(path).is_dir():
            return None
        with Path(path).open("rb"):
            return None
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error)
