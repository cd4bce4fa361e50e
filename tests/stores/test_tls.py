"""A server behind TLS: what is wrong is said, and what to do about it."""

from __future__ import annotations

import logging
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from distkit_actors import RedisStore, StoreError, StoreUnavailableError, StrictInstanceAwareCounter
from distkit_actors._stores._redis._reasons import reason
from distkit_actors._stores._redis._urls import read_url
from tests.faults.fleet import until
from tests.harness import transports
from tests.harness.ports import LOOPBACK
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, Transport
from tests.stores.listener import keep_silent, leading_to, listen, saying


@pytest.fixture(params=BOTH)
def transport(request: pytest.FixtureRequest) -> Transport:
    name: Transport = request.param
    return name


class Authority:
    """Who signs certificates, and where its files are."""

    def __init__(self, directory: Path, name: str) -> None:
        self.ca = trustme.CA()
        self.file = directory / f"{name}.pem"
        self.ca.cert_pem.write_to_path(str(self.file))
        self._directory = directory

    def context(self, host: str = LOOPBACK, *, asks: bool = False) -> ssl.SSLContext:
        """Return a server's, which may ask for a certificate of the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(host).configure_cert(context)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context

    def options_of_a_client(self, name: str = "client") -> str:
        """Return what a client's URL says of its certificate, which is made anew."""
        certificate, key = self._directory / "client.pem", self._directory / "client.key"
        issued = self.ca.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return f"&ssl_certfile={certificate}&ssl_keyfile={key}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def store_at(port: int, options: str, transport: Transport, scheme: str = "rediss") -> RedisStore:
    return transports.store_at(f"{scheme}://{LOOPBACK}:{port}/0?{options}", transport, 5)


async def failure_of(store: RedisStore, prefix: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        async with StrictInstanceAwareCounter.open(prefix, store):
            pytest.fail("it started")
    return caught.value


@pytest.mark.parametrize(("scheme", "asks"), [("rediss", False), ("valkeys", True)])
async def test_it_counts(
    scheme: str,
    asks: bool,
    authority: Authority,
    transport: Transport,
    redis_server: RedisServer,
    nursery: trio.Nursery,
    fresh_prefix: str,
) -> None:
    handler, context = leading_to(redis_server.port), authority.context(asks=asks)
    port = await listen(nursery, handler, context)
    options = f"ssl_ca_certs={authority.file}" + asks * authority.options_of_a_client()
    store = store_at(port, options, transport, scheme)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        assert await counter.inc("k", 3) == (3, 3)


@pytest.mark.parametrize(
    ("host", "asks", "known", "said"),
    [
        pytest.param(LOOPBACK, False, False, "ssl_ca_certs", id="another authority"),
        pytest.param("example.org", False, True, "another (name|address)", id="another host"),
        pytest.param(LOOPBACK, True, True, "ssl_certfile", id="no certificate of ours"),
    ],
)
async def test_the_reason_is_said(
    host: str,
    asks: bool,
    known: bool,
    said: str,
    authority: Authority,
    transport: Transport,
    redis_server: RedisServer,
    nursery: trio.Nursery,
    fresh_prefix: str,
) -> None:
    port = await listen(nursery, leading_to(redis_server.port), authority.context(host, asks=asks))
    store = store_at(port, f"ssl_ca_certs={authority.file}" if known else "", transport)
    error = await failure_of(store, fresh_prefix)
    assert isinstance(error, StoreUnavailableError)
    assert re.search(said, str(error))
    assert "BrokenResourceError" not in str(error)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "certfile"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", "certfile"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", "certfile"),
        ("certificate verify failed: certificate has expired", "renew"),
        ("certificate verify failed: self-signed certificate in certificate chain", "ca_certs"),
        ("something new", "something new"),
    ],
)
def test_what_openssl_says_is_explained(words: str, said: str) -> None:
    error = trio.BrokenResourceError()
    error.__cause__ = ssl.SSLError(1, words)
    assert said in reason(error)
    assert words in reason(error)


async def test_tls_that_begins_to_fail_is_logged_with_its_reason(
    authority: Authority,
    tmp_path: Path,
    transport: Transport,
    redis_server: RedisServer,
    fresh_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A certificate that is renewed by somebody else's authority, while a counter runs."""
    caplog.set_level(logging.DEBUG)
    context = authority.context()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            handler = leading_to(redis_server.port)
            port = await listen(nursery, handler, context)
            trusted = tmp_path / "trusted.pem"
            trusted.write_bytes(authority.file.read_bytes())
            store = store_at(port, f"ssl_ca_certs={trusted}", transport)
            async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
                await counter.inc("k")
                trusted.write_bytes(Authority(tmp_path, "other").file.read_bytes())
                redis_server.command("CLIENT", "KILL", "TYPE", "normal")
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(counter.inc, "k")
                    await until(lambda: "ssl_ca_certs" in caplog.text, 20)
                    trusted.write_bytes(authority.file.read_bytes())
                assert await counter.get("k") == (2, 2)
            nursery.cancel_scope.cancel()


async def test_a_certificate_that_is_replaced_is_used_from_the_next_connect_on(
    authority: Authority,
    transport: Transport,
    redis_server: RedisServer,
    nursery: trio.Nursery,
    fresh_prefix: str,
) -> None:
    shown: list[str] = []
    carry = leading_to(redis_server.port)

    async def note(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SSLStream)
        await stream.do_handshake()
        certificate = stream.getpeercert()
        shown.append(dict(certificate["subjectAltName"])["DNS"])
        await carry(stream)

    port = await listen(nursery, note, authority.context(asks=True))
    options = f"ssl_ca_certs={authority.file}{authority.options_of_a_client('first')}"
    store = store_at(port, options, transport)
    with trio.fail_after(30):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            await counter.inc("k")
            authority.options_of_a_client("second")
            await counter.inc("k")
            assert set(shown) == {"first"}
            redis_server.command("CLIENT", "KILL", "TYPE", "normal")
            assert await counter.inc("k") == (3, 3)
            assert shown[-1] == "second"


async def test_the_server_is_told_which_name_is_meant(
    authority: Authority,
    transport: Transport,
    redis_server: RedisServer,
    nursery: trio.Nursery,
    fresh_prefix: str,
) -> None:
    """So that many may stand behind one address (SNI)."""
    named: list[object] = []
    context = authority.context("localhost")
    context.sni_callback = lambda _stream, name, _context: named.append(name)
    port = await listen(nursery, leading_to(redis_server.port), context)
    url = f"valkeys://localhost:{port}/0?ssl_ca_certs={authority.file}"
    store = transports.store_at(url, transport, 5)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        assert await counter.inc("k") == (1, 1)
    assert set(named) == {"localhost"}


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
async def test_a_file_that_is_missing_is_named(
    option: str, authority: Authority, transport: Transport, tmp_path: Path, fresh_prefix: str
) -> None:
    missing = tmp_path / "missing.pem"
    given = f"ssl_certfile={authority.file}&" if option == "ssl_keyfile" else ""
    store = store_at(1, f"{given}{option}={missing}", transport)
    error = await failure_of(store, fresh_prefix)
    assert not isinstance(error, StoreUnavailableError)
    assert f"{option}={missing}: No such file" in str(error)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_ciphers"])
async def test_a_setting_that_is_no_good_is_named(
    option: str, transport: Transport, tmp_path: Path, fresh_prefix: str
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    value = "NONSENSE" if option == "ssl_ciphers" else bad
    error = await failure_of(store_at(1, f"{option}={value}", transport), fresh_prefix)
    assert not isinstance(error, StoreUnavailableError)
    assert option in str(error)


async def test_who_waits_is_told_that_a_server_closes_as_tls_wants_it(
    authority: Authority, transport: Transport, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    async def say_goodbye(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.aclose()

    port = await listen(nursery, say_goodbye, authority.context())
    store = store_at(port, f"ssl_ca_certs={authority.file}", transport)
    error = await failure_of(store, fresh_prefix)
    assert isinstance(error, StoreUnavailableError)
    assert "no answer for" not in str(error)


async def test_a_server_without_tls_is_recognised(
    transport: Transport, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    port = await listen(nursery, saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    error = await failure_of(store_at(port, "", transport), fresh_prefix)
    assert "does not speak TLS" in str(error)


async def test_a_server_that_waits_for_more_than_a_greeting_may_not_speak_tls(
    transport: Transport, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    """As Redis does, to which what TLS says is the beginning of a line."""
    port = await listen(nursery, keep_silent)
    store = transports.store_at(f"rediss://{LOOPBACK}:{port}/0", transport, 0.2)
    error = await failure_of(store, fresh_prefix)
    assert isinstance(error, StoreUnavailableError)
    assert "speak TLS" in str(error)


async def test_a_server_with_tls_is_recognised(
    authority: Authority, transport: Transport, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    """By one who does not speak it."""
    port = await listen(nursery, keep_silent, authority.context())
    store = store_at(port, "", transport, "redis")
    error = await failure_of(store, fresh_prefix)
    assert isinstance(error, StoreUnavailableError)
    assert "rediss://" in str(error)


async def test_options_may_be_arguments(
    authority: Authority, redis_server: RedisServer, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    handler, context = leading_to(redis_server.port), authority.context(asks=True)
    port = await listen(nursery, handler, context)
    files = dict(pair.split("=") for pair in authority.options_of_a_client()[1:].split("&"))
    store = RedisStore(
        f"rediss://{LOOPBACK}:{port}/0?ssl_certfile={files['ssl_certfile']}",
        ssl_ca_certs=str(authority.file),
        ssl_certfile=files["ssl_certfile"],
        ssl_keyfile=files["ssl_keyfile"],
        ssl_check_hostname=True,
        ssl_cert_reqs="required",
        ssl_min_version=ssl.TLSVersion.TLSv1_2,
        ssl_include_verify_flags=[ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST],
        ssl_password="",
    )
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        assert await counter.inc("k", 3) == (3, 3)


def test_arguments_mean_what_they_mean_in_a_url() -> None:
    options: dict[str, object] = {
        "ssl_ca_certs": "/a",
        "ssl_check_hostname": False,
        "ssl_cert_reqs": "none",
        "ssl_min_version": ssl.TLSVersion.TLSv1_3,
        "ssl_exclude_verify_flags": {ssl.VerifyFlags.VERIFY_X509_STRICT},
        "ssl_password": "secret",
    }
    words = {
        **options,
        "ssl_check_hostname": "no",
        "ssl_min_version": "TLSv1.3",
        "ssl_exclude_verify_flags": "VERIFY_X509_STRICT",
    }
    query = "&".join(f"{name}={word}" for name, word in words.items())
    for scheme in ("rediss", "valkeys+cluster", "rediss+sentinel"):
        place = f"{scheme}://h:1" + "/s" * ("sentinel" in scheme)
        assert read_url(place, options) == read_url(f"{place}?{query}")


@pytest.mark.parametrize(
    ("url", "options", "error", "said"),
    [
        ("redis://h", {"ssl_ca_certs": "/a"}, ValueError, "ssl_ca_certs is for rediss://"),
        ("rediss://h", {"ssl_ca_certs": ""}, ValueError, "path of a file"),
        ("rediss://h", {"ssl_ca_certs": 5}, ValueError, "path of a file"),
        ("rediss://h", {"ssl_check_hostname": "maybe"}, ValueError, "true or false"),
        ("rediss://h", {"ssl_min_version": "SSLv1"}, ValueError, "TLSv1.2"),
        ("rediss://h", {"ssl_include_verify_flags": [1]}, ValueError, "ssl.VerifyFlags"),
        (
            "rediss://h?ssl_ca_certs=/b",
            {"ssl_ca_certs": "/a"},
            ValueError,
            "says ssl_ca_certs",
        ),
        ("rediss://h", {"ssl_foo": "/a"}, TypeError, "unexpected keyword argument 'ssl_foo'"),
        ("rediss://h", {"socket_timeout": 1}, TypeError, "unexpected keyword argument"),
        ("rediss://h?ssl_password=aaa", {"ssl_password": "bbb"}, ValueError, "not the same"),
    ],
)
def test_an_argument_that_is_no_good_is_named(
    url: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        RedisStore(url, **options)
    assert "aaa" not in str(caught.value)
    assert "bbb" not in str(caught.value)
