"""Trouble while scripts are loaded: a fake says what servers and proxies say in bad moments."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from distkit_actors import RedisStore, StoreError, StoreUnavailableError
from distkit_actors._protocol._messages import (
    Peek,
    Peeked,
    Query,
    QueryKind,
    QueryPage,
    Reply,
    Request,
)
from distkit_actors._stores._contract import Link, StoreAwayError

from .fakes import Fake, started

#: Rights that the printed rules grant, of those that matter here.
READER = {"EVALSHA_RO", "SCRIPT"}
WRITER = {"EVALSHA", "SCRIPT"}
READ, WRITE = Query("", QueryKind.VALUES), Peek("i")


class Server(Fake):
    """A server with users who may not do all."""

    def __init__(self, rights: set[str]) -> None:
        super().__init__(self.tell)
        self.rights = rights
        self.loaded = False
        self.losses = 0  # connections that it closes when it is told scripts
        self.forgets = 0  # times that it does not know what it was told
        self.refused_in_script = False

    def tell(self, verb: str, *words: str) -> object:
        if verb == "AUTH":
            return "OK"
        if verb not in self.rights:
            return Exception(
                f"NOPERM this user has no permissions to run the '{verb.lower()}' command"
            )
        if verb == "SCRIPT":
            if self.losses:
                self.losses -= 1
                raise trio.BrokenResourceError
            self.loaded = True
            return "OK"
        if verb.startswith("EVALSHA"):
            if self.loaded and self.forgets:
                self.forgets -= 1
                self.loaded = False
            if not self.loaded:
                return Exception("NOSCRIPT No matching script. Please use EVAL.")
        if self.refused_in_script:
            return Exception(
                "NOPERM ACL failure in script: no permissions, script: f, on @user_script:1."
            )
        return ["surveyed", "", "7", "1"] if verb.endswith("_RO") else ["peeked", "0", "1", "0"]


async def ask(link: Link, request: Request) -> Reply:
    """Ask until the store is there, as counters and onlookers do. A refusal is raised."""
    for _ in range(6):
        try:
            await link.connect()
            return await link.exchange(request)
        except StoreUnavailableError:
            pass
    raise AssertionError("it is away for ever")


@pytest.mark.parametrize("password", ["", "eval"], ids=["words", "words withheld"])
@pytest.mark.parametrize("trouble", ["lost once", "lost twice", "forgotten"])
@pytest.mark.parametrize(("rights", "request_"), [(READER, READ), (WRITER, WRITE)])
async def test_who_may_load_scripts_and_bring_none_along_is_not_refused(
    rights: set[str], request_: Request, trouble: str, password: str, nursery: trio.Nursery
) -> None:
    server = Server(rights)
    (node,) = await started(nursery, server)
    who = f"u:{password}@" if password else ""
    async with RedisStore(f"redis://{who}{node}", response_timeout=30).link("p") as link:
        await link.connect()
        match trouble:
            case "lost once":
                server.losses = 1
            case "lost twice":
                server.losses = 2
            case _:
                server.forgets = 1
        assert isinstance(await ask(link, request_), QueryPage | Peeked)
        server.loaded = False
        told = len(server.said)
        assert isinstance(await ask(link, request_), QueryPage | Peeked)
        verbs = [words[0] for words in server.said[told:]]
        assert not {"EVAL", "EVAL_RO"} & set(verbs)
        assert "SCRIPT" in verbs


async def test_scripts_that_are_forgotten_again_as_they_were_loaded_are_loaded_next_time(
    nursery: trio.Nursery,
) -> None:
    """Somebody flushed them just then. Heartbeats go together as before."""
    server = Server(WRITER | {"EVAL"})
    (node,) = await started(nursery, server)
    async with RedisStore(f"redis://{node}", response_timeout=30).link("p") as link:
        assert isinstance(await ask(link, WRITE), Peeked)
        server.loaded, server.forgets = False, 1
        assert isinstance(await ask(link, WRITE), Peeked)
        assert server.said[-1][0] == "EVAL"
        server.loaded, told = False, len(server.said)
        assert isinstance(await ask(link, WRITE), Peeked)
        assert [words[0] for words in server.said[told:]][:2] == ["EVALSHA", "SCRIPT"]
        assert server.said[-1][0] == "EVALSHA"


@pytest.mark.parametrize(
    ("rights", "losses"),
    [(WRITER | {"EVAL"}, 1), (WRITER | {"EVAL"}, 100), ({"EVALSHA", "EVAL"}, 0)],
    ids=["lost once", "lost each time", "not allowed"],
)
async def test_a_right_that_a_script_misses_is_told_though_loading_was_in_trouble(
    rights: set[str], losses: int, nursery: trio.Nursery
) -> None:
    server = Server(rights)
    server.losses, server.refused_in_script = losses, True
    (node,) = await started(nursery, server)
    async with RedisStore(f"redis://{node}", response_timeout=30).link("p") as link:
        with pytest.raises(StoreError, match="ACL failure in script"):
            await ask(link, WRITE)


async def test_who_may_neither_load_scripts_nor_bring_them_along_is_told_so(
    nursery: trio.Nursery,
) -> None:
    server = Server(WRITER - {"SCRIPT"})
    (node,) = await started(nursery, server)
    async with RedisStore(f"redis://{node}", response_timeout=30).link("p") as link:
        for _ in range(3):
            with pytest.raises(StoreError, match="'script'") as caught:
                await ask(link, WRITE)
            assert not isinstance(caught.value, StoreAwayError)


@pytest.mark.parametrize("before", ["lost", "cancelled", "answered"])
async def test_a_right_that_is_granted_again_is_used_again(
    before: str, nursery: trio.Nursery
) -> None:
    """Whatever came of asking as one who may only read, while one could do no more."""
    server, scope = Server(READER), trio.CancelScope()
    (node,) = await started(nursery, server)

    def tell(verb: str, *words: str) -> object:
        if verb == "EVALSHA_RO" and before == "lost":
            raise trio.BrokenResourceError
        if verb == "EVALSHA_RO" and before == "cancelled":
            scope.cancel()
        return server.tell(verb, *words)

    async with RedisStore(f"redis://{node}", response_timeout=30).link("p") as link:
        await link.connect()
        server.answer = tell
        with scope, suppress(StoreUnavailableError):
            await link.exchange(READ)
        assert "EVALSHA_RO" in [words[0] for words in server.said]
        server.answer, server.rights = server.tell, WRITER
        for _ in range(2):
            await ask(link, READ)
        assert [words[0] for words in server.said[-2:]] == ["EVALSHA"] * 2


async def test_who_may_only_read_is_told_which_right_a_script_misses(
    nursery: trio.Nursery,
) -> None:
    server = Server(READER)
    (node,) = await started(nursery, server)
    async with RedisStore(f"redis://{node}", response_timeout=30).link("p") as link:
        await ask(link, READ)
        server.refused_in_script = True
        for _ in range(2):
            with pytest.raises(StoreError, match="ACL failure in script"):
                await ask(link, READ)
