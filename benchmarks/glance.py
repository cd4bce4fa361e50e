"""What somebody reads first: five lines and a picture, made of the tables.

`python -m benchmarks.glance` makes both again from ``docs/performance_table.md``. A whole run of
the benchmark does so, too. Each figure is a cell of a table, as it stands there.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.picture import description, panels, picture
from benchmarks.tables import REFERENCE, TABLE, K, Tables, found

DOCS: Final = Path(__file__).parents[1] / "docs"
#: What is made, beside the tables.
LINES: Final = "performance_glance.md"
PICTURE: Final = "performance.svg"

#: Characters in a line of Markdown.
_COLUMNS: Final = 120


@dataclass(frozen=True)
class Peer:
    """A peer of a line: what the tables call it, and what the line does."""

    name: str
    words: str


_REFERENCE: Final = Peer(REFERENCE, "the Rust crate `distkit`")


def lines(tables: Tables) -> str:
    """Return five lines, as Markdown."""

    def figure(group: str, name: str, *peers: Peer) -> str:
        ratios = [
            f"{_together(row.times)} {peer.words}"
            for peer in peers
            if (row := tables.beside(group, name, peer.name))
        ]
        if not ratios:
            raise LookupError(f"{TABLE} has no peer of {name!r} in the group {group!r}")
        return f"{_together(tables.ours(group, name).ours)} ({', '.join(ratios)})"

    pool = Peer("redis.asyncio, pool of 10", "`redis.asyncio` with a pool of 10")
    plain = Peer("plain method", "a plain Python method")
    one_key = figure("strict", f"{K} tasks on 1 key", pool, _REFERENCE)
    many_keys = figure("strict", f"{K} tasks on 100 keys", pool, _REFERENCE)
    alone = figure(
        "latency",
        "strict, trio transport",
        Peer("bare trio socket", "a bare `HINCRBY` over a trio socket"),
        _REFERENCE,
        Peer("valkey-glide on trio", "valkey-glide"),
        Peer("coredis on trio", "coredis"),
        Peer("redis.asyncio, one connection", "`redis.asyncio`"),
    )
    gauge = Peer("prometheus livesum gauge", "a gauge of `prometheus_client` in multiprocess mode")
    keyed = figure("lax", "inc_nowait(key)", plain, _REFERENCE, gauge)
    bound = figure("lax", "bound inc_nowait()", plain, _REFERENCE)
    single = figure("script", "batch of 1 key", Peer("server time of 1 HINCRBY", "one `HINCRBY`"))
    hundred = tables.beside("script", "batch of 100 keys", "server time of 100 HINCRBY")
    if not hundred:
        raise LookupError(f"{TABLE} does not say what the server works for a batch of 100 keys")
    each = found(r"per key (.*)$", hundred.also)
    key = figure("memory", "a key, in the server", Peer("field of a hash", "a field of a hash"))
    instance = figure(
        "memory", "an instance with one key, in the server", Peer("SET … EX", "a `SET … EX`")
    )
    known = figure(
        "memory",
        "a key that a lax counter knows, in the process",
        Peer("item of a dict", "an item of a dict"),
    )
    running = figure(
        "memory",
        "a running strict counter, in the process",
        Peer("bare trio socket", "a bare trio socket"),
    )
    batches = (
        f"A batch on one key takes {single}, however many calls are in it. "
        f"In a batch of 100 keys each key takes {_together(each)} "
        f"({_together(hundred.times)} as many `HINCRBY` that come together)."
    )
    in_server = f"In the server a key takes {key}. An instance with one key takes {instance}."
    in_process = (
        f"In the process a key of a lax counter takes {known}. "
        f"A running strict counter with its connection takes {running}."
    )
    points = {
        "Many tasks, strict": (
            f"{K} tasks of one process on one key make {one_key}. "
            f"On 100 keys they make {many_keys}."
        ),
        "One task alone, strict": f"A call takes {alone}.",
        "A count in memory, lax": (
            f"`inc_nowait(key)` takes {keyed}. A bound `inc_nowait()` takes {bound}."
        ),
        "Time of the server": batches,
        "Memory": f"{in_server} {in_process}",
    }
    text = ["<!-- Written by `python -m benchmarks.glance`; not to be edited. -->", ""]
    for title, sentences in points.items():
        text += _wrapped(f"**{title}.**", first="- ")
        for sentence in sentences.split(". "):
            text += _wrapped(sentence.removesuffix(".") + ".", first="  ")
    text += ["", *_wrapped(f"Measured on {tables.machine}.")]
    alt = description(panels(tables)).replace("[", r"\[").replace("]", r"\]")
    text += ["", *_wrapped(f"![{alt}]({PICTURE})")]
    return "\n".join(text) + "\n"


def _together(text: str) -> str:
    """Return a figure that no line ends in."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _wrapped(text: str, first: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def made(docs: Path = DOCS) -> dict[Path, str]:
    """Return what the files should say, by the tables beside them."""
    tables = Tables((docs / TABLE).read_text("utf-8"))
    return {docs / LINES: lines(tables), docs / PICTURE: picture(panels(tables))}


def renew(docs: Path = DOCS) -> list[str]:
    """Write the files, and return their names."""
    for path, text in made(docs).items():
        path.write_text(text, "utf-8")
    return [LINES, PICTURE]


if __name__ == "__main__":
    print("wrote", *renew())
