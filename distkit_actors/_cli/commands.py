"""The command line: all commands, by what they do."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .._demo import main as demo
from .._version import __version__
from . import changes, checks, looks
from .addresses import is_url, looks_like_address


class _Commands(click.Group):
    """All commands; a URL in the place of one is not repeated, as a password may stand there."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and (is_url(args[0]) or looks_like_address(args[0])):
            raise click.UsageError("a command comes first, and the URL of the store behind it", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def cli() -> None:
    """Look at the counters of a fleet, and correct them.

    URL is the address of the store, as in redis://localhost:6379/0. If it is left out, it is taken
    from the environment variable DISTKIT_ACTORS_URL: put a URL with a password there, because other
    users of the machine can read the arguments of a command. PREFIX is the name that the
    application has given to `open`; `prefixes` lists those in use.
    """


@cli.command(
    "demo",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo_(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Show a small fleet that survives a crash and a cut cable."""
    ctx.exit(demo.main(["demo", *arguments]))


for _command in (
    *(looks.top, looks.get, looks.instances, looks.slices, looks.prefixes),
    *(changes.forget, changes.set_, changes.delete, changes.clear),
    *(checks.check, checks.acl),
):
    cli.add_command(_command)
