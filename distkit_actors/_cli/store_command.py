"""What the commands have in common: how each finds its store, fails, and prints."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import click
import trio

from .. import DistkitError, Fleet, StrictInstanceAwareCounter, open_store
from .text import Align, columns

#: Where the store is, if no URL is given.
URL: Final = "DISTKIT_ACTORS_URL"
#: The exit code of what cannot be done.
UNUSABLE: Final = 2

#: A host and a port, and maybe a database: a URL of which the beginning was forgotten.
_ADDRESS: Final = re.compile(r"[\w.-]+:\d+(/\d+)?")

_T = TypeVar("_T")


class CannotError(click.ClickException):
    """The store cannot be used, or not so; what is wrong is said in a line."""

    exit_code = UNUSABLE


class StoreCommand(click.Command):
    """A command that begins with a URL, which may be in the environment instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        url = os.environ.get(URL)
        if not any("://" in word for word in args) and {"-h", "--help"}.isdisjoint(args):
            if url is None:
                such = next(filter(_ADDRESS.fullmatch, args), "localhost")
                raise click.UsageError(
                    f"where is the store? Give its URL first, such as redis://{such}, or set {URL}",
                    ctx,
                )
            args = [url, *args]
        return super().parse_args(ctx, args)


url_argument = click.argument("url", metavar="[URL]")
prefix_argument = click.argument("prefix")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@asynccontextmanager
async def taking_part(url: str, prefix: str) -> AsyncGenerator[StrictInstanceAwareCounter]:
    """Return a counter that spreads the prefix over as many parts as those do who live there."""
    async with Fleet.open(prefix, open_store(url)) as fleet:
        store = open_store(url, partitions=fleet.partitions)
    async with StrictInstanceAwareCounter.open(prefix, store) as counter:
        yield counter


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it in trio; say in a line what is wrong."""
    try:
        return trio.run(work)
    except (DistkitError, ValueError) as error:
        raise CannotError(" ".join(str(error).split())) from error


def print_json(value: object) -> None:
    """Print on one line what a program reads."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], aligns: Sequence[Align]
) -> None:
    """Print rows below a head; a program that reads a pipe gets no head."""
    table = [head, *rows] if sys.stdout.isatty() else rows
    for line in columns(table, aligns):
        click.echo(line)
