"""The commands that change what a store has."""

from __future__ import annotations

import signal
import sys
from typing import TextIO

import click
import trio

from .. import Fleet, open_store
from .store_command import (
    CannotError,
    StoreCommand,
    number_of_seconds,
    prefix_argument,
    run,
    taking_part,
    threshold_option,
    url_argument,
)
from .text import printable


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.argument("instance_ids", nargs=-1, required=True, metavar="INSTANCE...")
def forget(url: str, prefix: str, instance_ids: tuple[str, ...]) -> None:
    """Declare instances dead, and take their slices away, now.

    INSTANCE is an id, as `instances` prints it. One that is alive comes back with its slices: stop
    its process first.
    """

    async def do() -> None:
        async with Fleet.open(prefix, open_store(url)) as fleet:
            there = {info.instance_id for info in await fleet.instances()}
            for instance_id in instance_ids:
                await fleet.forget(instance_id)
        unknown = [f"'{printable(name)}'" for name in instance_ids if name not in there]
        if unknown:
            raise CannotError(
                f"no instance has the id {' or '.join(unknown)}: `instances` prints the ids in its "
                "first column"
            )

    run(do)


@click.command("set", cls=StoreCommand, context_settings={"ignore_unknown_options": True})
@url_argument
@prefix_argument
@click.argument("key")
@click.argument("count", type=int)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0),
    callback=number_of_seconds,
    help="End after so many seconds.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 256),
    help="Over how many parts the keys are spread, if no instance is alive that says it.",
)
@threshold_option
def set_(
    url: str,
    prefix: str,
    key: str,
    *,
    count: int,
    seconds: float | None,
    partitions: int | None,
    threshold: float,
) -> None:
    """Set the cumulative of a key to COUNT.

    The slices of all instances are removed. A count lasts as long as the instance that counts it.
    So this command is an instance itself while it runs, with COUNT as its slice. If COUNT is 0, it
    ends at once; else it ends after --for seconds, or at Ctrl-C.
    """

    async def do() -> None:
        async with taking_part(url, prefix, threshold, partitions) as counter:
            value = await counter.set(key, count)
            click.echo(value.cumulative)
            if count:
                how_long = "until Ctrl-C" if seconds is None else f"for {seconds:g} s"
                click.echo(f"holding {count} {how_long}", err=True)
                with trio.move_on_after(float("inf") if seconds is None else seconds):
                    await _interrupted()

    run(do)


async def _interrupted() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@threshold_option
def delete(url: str, prefix: str, keys: tuple[str, ...], threshold: float) -> None:
    """Delete keys, for all instances; print what each was."""

    async def do() -> None:
        async with taking_part(url, prefix, threshold) as counter:
            for key in keys:
                value = await counter.delete(key)
                click.echo(f"{printable(key)}  {value.cumulative}")

    run(do)


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@threshold_option
def clear(url: str, prefix: str, yes: bool, threshold: float) -> None:
    """Delete all keys of a prefix, for all instances."""
    if not yes:
        _ask(f"Delete all keys of {printable(prefix)}, for all instances?")

    async def do() -> None:
        async with taking_part(url, prefix, threshold) as counter:
            await counter.clear()

    run(do)


def _ask(question: str) -> None:
    """Go on if the answer is yes; end the command if it is no, or if nobody is there to answer."""
    nobody = click.UsageError("nobody is there to answer: with --yes it is done without asking")
    stdin: TextIO | None = sys.stdin  # None if it was closed before Python began
    if stdin is None:
        raise nobody
    try:
        click.confirm(question, abort=True)
    except click.Abort as error:
        if isinstance(error.__context__, EOFError) and not stdin.isatty():
            click.echo(err=True)  # ends the line of the question
            raise nobody from None
        raise
