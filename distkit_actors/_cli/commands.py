"""The commands.

In one file, longer than others, as each is short and most of it is what its user reads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar, cast

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .. import (
    DistkitError,
    Fleet,
    InvalidKeyError,
    Store,
    StrictInstanceAwareCounter,
    open_store,
)
from .._demo import main as demo
from .._fleet._audit import Finding, Level, audit
from .._protocol._values import checked_name
from .._stores._redis._rights import acl_command, acl_rule
from .text import Align, age, columns, printable
from .top import Picture, instance_to_json, lines, look, name_of, room_for_keys

#: Where the store is, if no URL is given.
URL: Final = "DISTKIT_ACTORS_URL"
#: What is wrong, and what cannot be done.
WRONG: Final = 1
UNUSABLE: Final = 2

_T = TypeVar("_T")

_STYLES: Final[dict[Level, str]] = {
    "ok": "green",
    "note": "default",
    "warning": "yellow",
    "wrong": "bold red",
}


class _CannotError(click.ClickException):
    exit_code = UNUSABLE


class _AtStore(click.Command):
    """A command that begins with a URL, which may be in the environment instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        url = os.environ.get(URL)
        if not any("://" in word for word in args) and {"-h", "--help"}.isdisjoint(args):
            if url is None:
                raise click.UsageError(
                    f"where is the store? Give its URL first, such as redis://localhost, or set "
                    f"{URL}",
                    ctx,
                )
            args = [url, *args]
        return super().parse_args(ctx, args)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="distkit-actors")
def cli() -> None:
    """Look at the counters of a fleet, and put them right.

    URL names the store, as in redis://localhost:6379/0. If it is left out, the environment variable
    DISTKIT_ACTORS_URL has it: other users of the machine do not see a password there. PREFIX names
    the counters that belong together. Over how many parts it is spread is found out.
    """


_url = click.argument("url", metavar="[URL]")
_prefix = click.argument("prefix")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


# ------------------------------------------------------------------------------- looking


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.option("--once", is_flag=True, help="Print one picture, and end.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--keys", "most", type=click.IntRange(min=1), help="How many keys to show.")
@_json
def top(
    url: str, prefix: str, *, once: bool, interval: float, most: int | None, as_json: bool
) -> None:
    """Show keys × instances, live.

    The largest keys first, what each grows in a second, and the heartbeats. On a terminal it shows
    what fits; Ctrl-C ends it. In a pipe all is printed again and again, in JSON on one line each.
    """
    work = partial(_top, url, prefix, once=once, interval=interval, most=most, as_json=as_json)
    with suppress(KeyboardInterrupt):
        _run(work)


async def _top(
    url: str, prefix: str, *, once: bool, interval: float, most: int | None, as_json: bool
) -> None:
    console = Console()
    live = console.is_terminal and not console.is_dumb_terminal and not once and not as_json
    with ExitStack() as stack:
        show = partial(_print_picture, as_json, console.width if console.is_terminal else None)
        if live:
            screen = stack.enter_context(
                cast("AbstractContextManager[Live]", Live(console=console, auto_refresh=False))
            )
            show = partial(_draw_picture, screen, console)
        async with Fleet.open(prefix, _store(url)) as fleet:
            picture = await look(fleet, 0, None)  # so that there is a rate from the first on
            if not once:
                show(await look(fleet, _most(most, console, live), None))
            while True:
                await trio.sleep(interval)
                picture = await look(fleet, _most(most, console, live), picture)
                show(picture)
                if once:
                    return


def _most(given: int | None, console: Console, live: bool) -> int | None:
    return room_for_keys(console.height) if given is None and live else given


def _print_picture(as_json: bool, width: int | None, picture: Picture) -> None:
    if as_json:
        _print_json(picture.to_json())
    else:
        click.echo("\n".join(lines(picture, width)))


def _draw_picture(screen: Live, console: Console, picture: Picture) -> None:
    text = Text("\n".join(lines(picture, console.width)), no_wrap=True, overflow="crop")
    screen.update(text, refresh=True)


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@_json
def get(url: str, prefix: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Print the cumulative of a key, or of several with their names; of all if none is named."""

    async def ask() -> dict[str, int]:
        async with Fleet.open(prefix, _store(url)) as fleet:
            found = await fleet.get_all(keys or await fleet.keys())
            return {key: value.cumulative for key, value in found.items()}

    values = _run(ask)
    if as_json:
        _print_json(values)
    elif len(keys) == 1:
        click.echo(values[keys[0]])
    else:
        _print_table(
            ("key", "cumulative"),
            [(printable(key), str(value)) for key, value in values.items()],
            ("left", "right"),
        )


@cli.command(cls=_AtStore)
@_url
@_prefix
@_json
def instances(url: str, prefix: str, as_json: bool) -> None:
    """Print who is there, and when each was heard last."""

    async def ask() -> list[dict[str, object]]:
        async with Fleet.open(prefix, _store(url)) as fleet:
            found = await fleet.instances()
        rows = [
            (
                printable(info.instance_id),
                "alive" if info.alive else "dead",
                age(info.heartbeat_age),
                printable(name_of(info)) if name_of(info) != info.instance_id else "",
            )
            for info in found
        ]
        if not as_json:
            _print_table(
                ("instance", "state", "heartbeat", "label"), rows, ("left", "left", "right", "left")
            )
            if found and not any(info.alive for info in found):
                click.echo("nobody is alive", err=True)
        return [instance_to_json(info) for info in found]

    told = _run(ask)
    if as_json:
        _print_json(told)


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.argument("key")
@_json
def slices(url: str, prefix: str, key: str, as_json: bool) -> None:
    """Print who contributes what to a key."""

    async def ask() -> dict[str, int]:
        async with Fleet.open(prefix, _store(url)) as fleet:
            return await fleet.slices(key)

    found = _run(ask)
    if as_json:
        _print_json(found)
    else:
        rows = [(printable(name), str(value)) for name, value in sorted(found.items())]
        _print_table(("instance", "slice"), rows, ("left", "right"))


@cli.command(cls=_AtStore)
@_url
@_json
def prefixes(url: str, as_json: bool) -> None:
    """Print the prefixes that are in use."""

    async def ask() -> list[str]:
        return await Fleet.prefixes(_store(url))

    found = _run(ask)
    if as_json:
        _print_json(found)
    else:
        for prefix in found:
            click.echo(printable(prefix))


# ------------------------------------------------------------------------------ changing


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.argument("instance_ids", nargs=-1, required=True, metavar="INSTANCE...")
def forget(url: str, prefix: str, instance_ids: tuple[str, ...]) -> None:
    """Take instances for dead, and their slices away, now.

    One that lives comes back with its slices: stop its process.
    """

    async def do() -> None:
        async with Fleet.open(prefix, _store(url)) as fleet:
            for instance_id in instance_ids:
                await fleet.forget(instance_id)

    _run(do)


@cli.command("set", cls=_AtStore, context_settings={"ignore_unknown_options": True})
@_url
@_prefix
@click.argument("key")
@click.argument("count", type=int)
@click.option("--for", "seconds", type=click.FloatRange(min=0), help="Seconds after which it ends.")
def set_(url: str, prefix: str, key: str, count: int, seconds: float | None) -> None:
    """Make a key's cumulative COUNT: the slices of all instances go.

    What is counted lives as long as who counts it. So this command is an instance for as long as it
    runs, with COUNT as its slice; with 0 it ends at once, else after --for seconds, or at Ctrl-C.
    """

    async def do() -> None:
        async with _taking_part(url, prefix) as counter:
            value = await counter.set(key, count)
            click.echo(value.cumulative)
            if count:
                until = "Ctrl-C" if seconds is None else f"{seconds:g} seconds have passed"
                click.echo(f"holding {count} until {until}", err=True)
                with trio.move_on_after(float("inf") if seconds is None else seconds):
                    await _interrupted()

    _run(do)


async def _interrupted() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def delete(url: str, prefix: str, keys: tuple[str, ...]) -> None:
    """Delete keys, for all instances; print what each was."""

    async def do() -> None:
        async with _taking_part(url, prefix) as counter:
            for key in keys:
                value = await counter.delete(key)
                click.echo(f"{printable(key)}  {value.cumulative}")

    _run(do)


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(url: str, prefix: str, yes: bool) -> None:
    """Delete all keys of a prefix, for all instances; of several parts each by itself."""
    if not yes:
        click.confirm(f"Delete all keys of {printable(prefix)}, for all instances?", abort=True)

    async def do() -> None:
        async with _taking_part(url, prefix) as counter:
            await counter.clear()

    _run(do)


# ------------------------------------------------------------------------------ checking


@cli.command(cls=_AtStore)
@_url
@_prefix
@click.option("--strict", is_flag=True, help="Take warnings for something wrong.")
@_json
@click.pass_context
def check(ctx: click.Context, url: str, prefix: str, strict: bool, as_json: bool) -> None:
    """See whether all is as it should be; changes nothing, and takes a second.

    Whether each cumulative is the sum of its slices, whether the server may evict keys, who is
    dead, what we may do, whether the server's clock goes. Exit code 0: nothing is wrong; 1:
    something is; 2: the store cannot be used.
    """
    found = _run(partial(_audit, url, prefix))
    bad = any(level == "wrong" or (strict and level == "warning") for level, _, _ in found)
    if as_json:
        findings = [finding._asdict() for finding in found]
        _print_json({"prefix": prefix, "ok": not bad, "findings": findings})
    else:
        console = Console(soft_wrap=True, highlight=False)
        for level, _, text in found:
            console.print(Text(f"{level:<8} {printable(text)}", style=_STYLES[level]))
    ctx.exit(WRONG if bad else 0)


async def _audit(url: str, prefix: str) -> list[Finding]:
    return await audit(prefix, _store(url))


@cli.command()
@click.argument("prefix", required=False)
@click.option("--watch", is_flag=True, help="Changes are to be told of at once.")
@click.option("--read-only", is_flag=True, help="For those who only look.")
@click.option("--user", help="The name of the user.")
@click.option("--db", "database", type=click.IntRange(min=0), default=0, help="The database.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 256),
    default=1,
    help="Over how many parts the keys of PREFIX are spread.",
)
@_json
def acl(
    prefix: str | None,
    *,
    watch: bool,
    read_only: bool,
    user: str | None,
    database: int,
    partitions: int,
    as_json: bool,
) -> None:
    """Print the least rights that a user of Redis or Valkey needs.

    For the counters of PREFIX, or of all if none is given: then the user may list the prefixes,
    too. The command that is printed is for redis-cli; put a password in the place of "secret". Who
    may only look cannot ask to be told of changes, but reads again and again while it watches.
    """
    if watch and read_only:
        raise click.UsageError("who may only look cannot ask to be told of changes")
    if prefix is not None:
        try:
            checked_name(prefix, "prefix")
        except InvalidKeyError as error:
            raise _CannotError(str(error)) from error
    name = user or ("onlooker" if read_only else "counters")
    rules = {
        old: acl_rule(
            prefix,
            watch=watch,
            read_only=read_only,
            before_7=old,
            database=database,
            partitions=partitions,
        )
        for old in (False, True)
    }
    if as_json:
        _print_json({"rule": rules[False], "rule_before_redis_7": rules[True]})
        return
    for old, rule in rules.items():
        if not old or rule != rules[False]:
            if read_only:
                click.echo("# Redis 6.2" if old else "# Redis 7.0 and newer, Valkey")
            click.echo(acl_command(name, rule))


@cli.command(
    "demo",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo_(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Watch a fleet live through a crash, a cut cable and a new epoch."""
    ctx.exit(demo.main(["demo", *arguments]))


# --------------------------------------------------------------------------------- parts


def _store(url: str) -> Store:
    return open_store(url)


@asynccontextmanager
async def _taking_part(url: str, prefix: str) -> AsyncGenerator[StrictInstanceAwareCounter]:
    """Return a counter that spreads the prefix over as many parts as those do who live there."""
    async with Fleet.open(prefix, _store(url)) as fleet:
        store = open_store(url, partitions=fleet.partitions)
    async with StrictInstanceAwareCounter.open(prefix, store) as counter:
        yield counter


def _run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it in trio; say in a line what is wrong."""
    try:
        return trio.run(work)
    except (DistkitError, ValueError) as error:
        raise _CannotError(" ".join(str(error).split())) from error


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def _print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], aligns: Sequence[Align]
) -> None:
    """Print rows below a head; a program that reads a pipe gets no head."""
    table = [head, *rows] if sys.stdout.isatty() else rows
    for line in columns(table, aligns):
        click.echo(line)
