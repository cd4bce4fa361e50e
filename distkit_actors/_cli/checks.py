"""The commands about how a store is set up: whether all is right, and which rights it takes."""

from __future__ import annotations

from functools import partial
from typing import Final, get_args

import click
from rich.console import Console
from rich.text import Text

from .. import InvalidKeyError, open_store
from .._fleet._audit import Finding, Level, audit
from .._protocol._values import checked_name
from .._stores._redis._rights import Topology, acl_command, acl_rule
from .addresses import is_url, looks_like_address, may_tell_a_password
from .store_command import (
    CannotError,
    StoreCommand,
    json_option,
    prefix_argument,
    print_json,
    run,
    url_argument,
    words_of,
)
from .text import printable

#: The exit code of a check that finds something wrong.
WRONG: Final = 1

_STYLES: Final[dict[Level, str]] = {
    "ok": "green",
    "note": "default",
    "warning": "yellow",
    "wrong": "bold red",
}


@click.command(cls=StoreCommand)
@url_argument
@prefix_argument
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@json_option
@click.pass_context
def check(ctx: click.Context, url: str, prefix: str, strict: bool, as_json: bool) -> None:
    """Check that all is well; changes nothing, and takes a second or more.

    Is each cumulative the sum of its slices? May the server evict keys? Which instances are dead?
    What may this user do? Is the server's clock right? Exit code 0: nothing is wrong; 1: something
    is; 2: the store cannot be used.
    """
    found = run(partial(_audit, url, prefix))
    bad = any(level == "wrong" or (strict and level == "warning") for level, _, _ in found)
    if as_json:
        findings = [finding._asdict() for finding in found]
        print_json({"prefix": prefix, "ok": not bad, "findings": findings})
    else:
        console = Console(soft_wrap=True, highlight=False)
        for level, _, text in found:
            console.print(Text(f"{level:<8} {printable(text)}", style=_STYLES[level]))
    ctx.exit(WRONG if bad else 0)


async def _audit(url: str, prefix: str) -> list[Finding]:
    return await audit(prefix, open_store(url))


class _WithoutStore(click.Command):
    """A command that takes no URL, and says so to who gives one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [] if ctx.resilient_parsing else words_of(self, ctx, args)
        # What stands behind -- is a prefix, whatever it looks like.
        behind = args[args.index("--") + 1 :] if "--" in args else []
        urls = [word for word in words if is_url(word) or looks_like_address(word)]
        if urls and (len(words) > 1 or (may_tell_a_password(urls[0]) and not behind)):
            hint = "or write -- in front of a prefix that looks like one"
            raise click.UsageError(f"{self.name} asks no store: leave the URL out, {hint}", ctx)
        return super().parse_args(ctx, args)


@click.command(cls=_WithoutStore)
@click.argument("prefix", required=False)
@click.option("--watch", is_flag=True, help="The server tells of changes at once.")
@click.option("--read-only", is_flag=True, help="For a user who only looks.")
@click.option("--user", help="The name of the user.")
@click.option("--db", "database", type=click.IntRange(min=0), default=0, help="The database.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 256),
    default=1,
    help="The number of parts over which the keys of PREFIX are spread.",
)
@click.option(
    "--topology",
    type=click.Choice(get_args(Topology)),
    default="single",
    help="How the servers are found: by the URL, by sentinels, or in a cluster.",
)
@click.option("--min-replicas", is_flag=True, help="Replicas confirm writes.")
@json_option
def acl(
    prefix: str | None,
    *,
    watch: bool,
    read_only: bool,
    user: str | None,
    database: int,
    partitions: int,
    topology: Topology,
    min_replicas: bool,
    as_json: bool,
) -> None:
    """Print the least rights that a user of Redis or Valkey needs.

    They are for the counters of PREFIX. Without a PREFIX they are for all counters, and the user
    may list the prefixes, too. What is printed is a command for redis-cli; put a password in the
    place of "secret". With --read-only, the server cannot tell the user of changes: a watch then
    reads again and again.
    """
    if watch and read_only:
        raise click.UsageError("who may only look cannot ask to be told of changes")
    if prefix is not None:
        try:
            checked_name(prefix, "prefix")
        except InvalidKeyError as error:
            raise CannotError(str(error)) from error
        if is_url(prefix) or looks_like_address(prefix):
            click.echo(f"these are the rights for a prefix '{printable(prefix)}'", err=True)
    name = user or ("onlooker" if read_only else "counters")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"'{printable(name)}' cannot be the name of a user") from None
    rules = {
        old: acl_rule(
            prefix,
            watch=watch,
            read_only=read_only,
            before_7=old,
            database=database,
            partitions=partitions,
            topology=topology,
            confirmed=min_replicas,
        )
        for old in (False, True)
    }
    if as_json:
        print_json({"rule": rules[False], "rule_before_redis_7": rules[True]})
        return
    for old, rule in rules.items():
        if not old or rule != rules[False]:
            if rules[True] != rules[False]:
                click.echo("# Redis 6.2" if old else "# Redis 7.0 and newer, Valkey")
            click.echo(acl_command(name, rule))
