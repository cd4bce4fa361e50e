"""The commands that change what a store has."""

from __future__ import annotations

import signal

import click
import trio

from .. import Fleet, open_store
from .store_command import StoreCommand, prefix_argument, run, taking_part, url_argument
from .text import printable


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.argument("instance_ids", nargs=-1, required=True, metavar="INSTANCE...")
def forget(url: str, prefix: str, instance_ids: tuple[str, ...]) -> None:
    """Take instances for dead, and their slices away, now.

    One that lives comes back with its slices: stop its process.
    """

    async def do() -> None:
        async with Fleet.open(prefix, open_store(url)) as fleet:
            for instance_id in instance_ids:
                await fleet.forget(instance_id)

    run(do)


@click.command("set", cls=StoreCommand, context_settings={"ignore_unknown_options": True})
@url_argument
@prefix_argument
@click.argument("key")
@click.argument("count", type=int)
@click.option("--for", "seconds", type=click.FloatRange(min=0), help="Seconds after which it ends.")
def set_(url: str, prefix: str, key: str, count: int, seconds: float | None) -> None:
    """Make a key's cumulative COUNT: the slices of all instances go.

    What is counted lives as long as who counts it. So this command is an instance for as long as it
    runs, with COUNT as its slice; with 0 it ends at once, else after --for seconds, or at Ctrl-C.
    """

    async def do() -> None:
        async with taking_part(url, prefix) as counter:
            value = await counter.set(key, count)
            click.echo(value.cumulative)
            if count:
                until = "Ctrl-C" if seconds is None else f"{seconds:g} seconds have passed"
                click.echo(f"holding {count} until {until}", err=True)
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
def delete(url: str, prefix: str, keys: tuple[str, ...]) -> None:
    """Delete keys, for all instances; print what each was."""

    async def do() -> None:
        async with taking_part(url, prefix) as counter:
            for key in keys:
                value = await counter.delete(key)
                click.echo(f"{printable(key)}  {value.cumulative}")

    run(do)


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(url: str, prefix: str, yes: bool) -> None:
    """Delete all keys of a prefix, for all instances; of several parts each by itself."""
    if not yes:
        click.confirm(f"Delete all keys of {printable(prefix)}, for all instances?", abort=True)

    async def do() -> None:
        async with taking_part(url, prefix) as counter:
            await counter.clear()

    run(do)
