"""The commands that look at a store, and change nothing in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from typing import cast

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .. import Fleet, open_store
from .store_command import (
    StoreCommand,
    json_option,
    number_of_seconds,
    on_terminal,
    prefix_argument,
    print_json,
    print_table,
    run,
    url_argument,
)
from .text import age, printable
from .top import Picture, lines, look, name_of, room_for_keys


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.option("--once", is_flag=True, help="Print the table once, and end.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    callback=number_of_seconds,
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--keys", "most", type=click.IntRange(min=1), help="How many keys to show.")
@json_option
def top(
    url: str, prefix: str, *, once: bool, interval: float, most: int | None, as_json: bool
) -> None:
    """Show a table of keys and instances, live.

    It has the largest keys first, how much each grows per second, and how long ago each instance
    was heard. A terminal shows as much as fits; Ctrl-C ends it. In a pipe, the whole table is
    printed again and again; with --json, each is one line. The tickets of limiters, whose sum means
    nothing, are left out.
    """
    work = partial(_top, url, prefix, once=once, interval=interval, most=most, as_json=as_json)
    if once:
        run(work)  # Ctrl-C calls it off, as it does other commands
    else:
        with suppress(KeyboardInterrupt):
            run(work)


async def _top(
    url: str, prefix: str, *, once: bool, interval: float, most: int | None, as_json: bool
) -> None:
    console = Console(force_terminal=on_terminal())  # whatever the environment says of colours
    live = console.is_terminal and not console.is_dumb_terminal and not once and not as_json
    with ExitStack() as stack:
        show = partial(_print_picture, as_json, console.width if console.is_terminal else None)
        if live:
            screen = stack.enter_context(
                cast("AbstractContextManager[Live]", Live(console=console, auto_refresh=False))
            )
            show = partial(_draw_picture, screen, console)
        async with Fleet.open(prefix, open_store(url)) as fleet:
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
        print_json(picture.to_json())
    else:
        click.echo("\n".join(lines(picture, width)))


def _draw_picture(screen: Live, console: Console, picture: Picture) -> None:
    text = Text(
        "\n".join(lines(picture, console.width, console.height)), no_wrap=True, overflow="crop"
    )
    screen.update(text, refresh=True)


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@json_option
def get(url: str, prefix: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Print the cumulative of one key, of several, or of all.

    Of one key it is the number alone; else each key is printed with its number.
    """

    async def ask() -> dict[str, int]:
        async with Fleet.open(prefix, open_store(url)) as fleet:
            found = await fleet.get_all(keys or await fleet.keys())
            return {key: value.cumulative for key, value in found.items()}

    values = run(ask)
    if as_json:
        print_json(values)
    elif len(keys) == 1:
        click.echo(values[keys[0]])
    elif not values:
        click.echo(f"nothing is counted in {printable(prefix)}", err=True)
    else:
        print_table(
            ("key", "cumulative"),
            [(printable(key), str(value)) for key, value in values.items()],
            ("left", "right"),
        )


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@json_option
def instances(url: str, prefix: str, as_json: bool) -> None:
    """Print the instances, how long ago each was heard, and which version each runs."""

    async def ask() -> list[dict[str, object]]:
        async with Fleet.open(prefix, open_store(url)) as fleet:
            found = await fleet.instances()
        rows = [
            (
                printable(info.instance_id),
                "alive" if info.alive else "dead",
                age(info.heartbeat_age),
                printable(info.version or ""),
                printable(name_of(info)) if name_of(info) != info.instance_id else "",
            )
            for info in found
        ]
        if not as_json:
            print_table(
                ("instance", "state", "heartbeat", "version", "label"),
                rows,
                ("left", "left", "right", "left", "left"),
            )
            if not any(info.alive for info in found):
                remark = "is alive" if found else f"is there in {printable(prefix)}"
                click.echo(f"nobody {remark}", err=True)
        return [info._asdict() for info in found]

    told = run(ask)
    if as_json:
        print_json(told)


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.argument("key")
@json_option
def slices(url: str, prefix: str, key: str, as_json: bool) -> None:
    """Print how much each instance contributes to a key, with the label that it may have."""

    async def ask() -> tuple[dict[str, int], dict[str, str]]:
        async with Fleet.open(prefix, open_store(url)) as fleet:
            found = await fleet.slices(key)
            labels = {} if as_json else await _labels(fleet)
        return found, labels

    found, labels = run(ask)
    if as_json:
        print_json(found)
    elif not found:
        click.echo(f"nobody contributes to {printable(key)}", err=True)
    else:
        rows = [
            (printable(name), str(value), printable(labels.get(name, "")))
            for name, value in sorted(found.items())
        ]
        print_table(("instance", "slice", "label"), rows, ("left", "right", "left"))


async def _labels(fleet: Fleet) -> dict[str, str]:
    return {info.instance_id: info.label or "" for info in await fleet.instances()}


@click.command(cls=StoreCommand)
@url_argument
@json_option
def prefixes(url: str, as_json: bool) -> None:
    """Print the prefixes that are in use."""

    async def ask() -> list[str]:
        return await Fleet.prefixes(open_store(url))

    found = run(ask)
    if as_json:
        print_json(found)
    else:
        for prefix in found:
            click.echo(printable(prefix))
