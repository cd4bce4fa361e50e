"""What the commands have in common: how each finds its store, fails, and prints."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TextIO, TypeVar

import click
import trio

from .. import DistkitError, Fleet, StrictInstanceAwareCounter, open_store
from .._actor._groups import sole
from .._demo.main import UNUSABLE
from .addresses import (
    as_url,
    is_url,
    is_url_of_a_store,
    looks_like_address,
    may_tell_a_password,
)
from .text import Align, columns, printable

#: Where the store is, if no URL is given.
URL: Final = "DISTKIT_ACTORS_URL"

_T = TypeVar("_T")


class CannotError(click.ClickException):
    """The store cannot be used, or not so; what is wrong is said in a line."""

    exit_code = UNUSABLE


class StoreCommand(click.Command):
    """A command that begins with a URL, which may be in the environment instead."""

    allow_extra_args = True  # click would repeat them

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing  # nothing may be said then
        options = args[: args.index("--")] if "--" in args else args
        if not completing and {"-h", "--help"}.isdisjoint(options):
            words = words_of(self, ctx, args)
            if not (words and is_url(words[0])):
                args = [_url_in_environment(ctx, words), *args]
        unexpected = super().parse_args(ctx, args)
        if unexpected and not completing:
            shown = ("…" if may_tell_a_password(w) else f"'{printable(w)}'" for w in unexpected)
            raise click.UsageError(f"too many arguments: {', '.join(shown)}", ctx)
        return unexpected


def words_of(command: click.Command, ctx: click.Context, args: Sequence[str]) -> list[str]:
    """Return those of ``args`` that are no options, nor values of options."""
    values, others, _ = command.make_parser(ctx).parse_args(list(args))
    words: list[str] = []
    for argument in command.get_params(ctx):
        if isinstance(argument, click.Argument):
            value = values.get(argument.name or "")
            if isinstance(value, tuple):
                words += value
            elif isinstance(value, str):  # if there is no word for it, it is something else
                words.append(value)
    return [*words, *others]


def _url_in_environment(ctx: click.Context, words: Sequence[str]) -> str:
    """Return the URL that was left out; say so if it stands there, but not as it must."""
    if any(map(is_url_of_a_store, words)):
        raise click.UsageError("the URL of the store is the first argument, before the prefix", ctx)
    url = os.environ.get(URL)
    place = words[0] if words and looks_like_address(words[0]) else None
    if url is None:
        such = as_url(place or "localhost")
        raise click.UsageError(
            f"where is the store? Give its URL first, such as {such}, or set {URL}", ctx
        )
    if place is None:
        return url
    shown = "this" if may_tell_a_password(place) else f"'{place}'"
    raise click.UsageError(
        f"the first argument looks like a host: for the store there write {as_url(place)}; "
        f"if {shown} is a prefix, write the URL of its store before it",
        ctx,
    )


url_argument = click.argument("url", metavar="[URL]")
prefix_argument = click.argument("prefix")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def number_of_seconds(
    ctx: click.Context,
    param: click.Parameter,
    value: float | None,
) -> float | None:
    """Return an option's seconds; say so if they are ``nan``, which no range leaves out."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("'nan' is no number of seconds", ctx, param)
    return value


threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(min=0.1),
    callback=number_of_seconds,
    default=30.0,
    show_default=True,
    help="The service's dead_instance_threshold, in seconds.",
)


@asynccontextmanager
async def taking_part(
    url: str, prefix: str, threshold: float, partitions: int | None = None
) -> AsyncGenerator[StrictInstanceAwareCounter]:
    """Return a counter that spreads the prefix over as many parts as those do who live there.

    If nobody lives there, it is over ``partitions``, or if that is None, as the dead have it, or 1.
    """
    async with Fleet.open(prefix, open_store(url, partitions=partitions or 1)) as fleet:
        number = fleet.partitions
        if partitions and not any(info.alive for info in await fleet.instances()):
            number = partitions
    async with StrictInstanceAwareCounter.open(
        prefix, open_store(url, partitions=number), dead_instance_threshold=threshold
    ) as counter:
        yield counter


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it in trio; say in a line what is wrong, with all that is known of it."""
    try:
        return trio.run(work)
    except (DistkitError, ValueError) as error:
        said = [str(error), *getattr(error, "__notes__", ())]
        raise CannotError("; ".join(" ".join(words.split()) for words in said)) from error
    except BaseExceptionGroup as group:  # an interrupt that came while it connected
        raise (sole(group) or group) from None


def on_terminal() -> bool:
    """Return whether somebody reads it at once, and not a program through a pipe."""
    stdout: TextIO | None = sys.stdout  # None if it was closed before Python began
    return stdout is not None and stdout.isatty()


def print_json(value: object) -> None:
    """Print on one line what a program reads, in letters that every output and terminal takes."""
    click.echo(json.dumps(value))


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], aligns: Sequence[Align]
) -> None:
    """Print rows below a head; a program that reads a pipe gets no head."""
    table = [head, *rows] if on_terminal() else rows
    for line in columns(table, aligns):
        click.echo(line)
