"""What is explored: the short set with the tests, the long one by ``make modelcheck``."""

from __future__ import annotations

from typing import Final

from tests.model.world import Scope

ALL: Final = ("inc a", "set a", "delete a", "clear")


def _scope(
    name: str, menu: tuple[str, ...], total: int, *faults: str, **settings: object
) -> Scope:
    """Return a scope in which each fault may happen up to ``total`` times; "loss" is two."""
    kinds: dict[str, int] = {}
    for fault in faults:
        for kind in ("drop", "mute") if fault == "loss" else (fault,):
            kinds[kind] = 1 if kind in ("collect", "blackout", "rollback") else total
    return Scope(name, menu, faults=kinds, total=total, **settings)  # type: ignore[arg-type]


#: Run by the tests: every rule is at work in one of them, none takes longer than a few seconds.
SHORT: Final = (
    _scope("loss", ALL, 2, "loss", "late", beats=False),
    _scope("reap", ("inc a", "set a", "clear"), 2, "mute", "reap", "expire", beats=False),
    _scope("wipe", ALL, 2, "loss", "wipe", beats=False),
    _scope("rollback", ("inc a", "set a"), 2, "mute", "rollback", beats=False),
    _scope("takeover", ("inc a", "set a"), 2, "takeover", "mute", "late", "drop", beats=False),
    _scope(
        "inherit, wipe",
        ("inc a",),
        2,
        "takeover",
        "wipe",
        inherit=(True,),
        operations=1,
    ),
    _scope("leave, kill", ("inc a", "set a", "leave"), 2, "kill", "mute", "reap", beats=False),
    _scope("collect", ("inc a", "set a"), 2, "collect", "reap", "kill", operations=2, beats=False),
    _scope("blackout", ("inc a", "put a"), 2, "blackout", "reap", "mute"),
    _scope(
        "half reaped",
        ("inc a+inc b", "set a", "drop b"),
        2,
        "reap",
        "mute",
        keys=("a", "b"),
        budgets=(0, 1, 50),
        operations=2,
        beats=False,
    ),
    _scope("recent beats", ("inc a", "set a"), 2, "loss", "late", "reap", lazy=True, still=True),
)

#: The rest, for ``make modelcheck``.
LONG: Final = (
    _scope("1 op of all, 3 of loss/late/reap/expire", ALL, 3, "loss", "late", "reap", "expire", beats=False),
    _scope("1 op of all, 3 of loss/late/wipe", ALL, 3, "loss", "late", "wipe", beats=False),
    _scope("1 op of all, 3 of loss/late/rollback", ALL, 3, "loss", "late", "rollback", beats=False),
    _scope("1 op of all, 2 of loss/late/reap/expire, beats", ALL, 2, "loss", "late", "reap", "expire"),
    _scope("1 op of all, 2 of loss/late/wipe, beats", ALL, 2, "loss", "late", "wipe"),
    _scope("1 op of inc/set/clear, 2 of loss/late/rollback, beats", ("inc a", "set a", "clear"), 2, "loss", "late", "rollback"),
    _scope("1 op of inc/set, 2 of wipe/rollback/reap/expire, beats", ("inc a", "set a"), 2, "wipe", "rollback", "reap", "expire"),
    _scope("2 ops of inc/set, 2 of loss/late/rollback", ("inc a", "set a"), 2, "loss", "late", "rollback", operations=2, beats=False),
    _scope("2 ops of inc/set, 2 of loss/late/reap", ("inc a", "set a"), 2, "loss", "late", "reap", operations=2, beats=False),
    _scope("2 ops of inc/set, 2 of wipe/mute, beats", ("inc a", "set a"), 2, "wipe", "mute", operations=2),
    _scope("2 ops of inc/set, 3 of collect/reap/expire, beats", ("inc a", "set a"), 3, "collect", "reap", "expire", operations=2),
    _scope("2 ops of inc/set, 2 of collect/wipe/kill, beats", ("inc a", "set a"), 2, "collect", "wipe", "kill", operations=2),
    _scope("2 ops of inc/set, 2 of kill/reap, beats", ("inc a", "set a"), 2, "kill", "reap", operations=2),
    _scope("2 ops of inc/set/leave, 2 of rollback/reap", ("inc a", "set a", "leave"), 2, "rollback", "reap", operations=2, beats=False),
    _scope("3 ops of inc/set, 1 wipe", ("inc a", "set a"), 1, "wipe", operations=3),
    _scope("3 ops of inc/set, 1 of loss/late", ("inc a", "set a"), 1, "loss", "late", operations=3),
    _scope("takeover, inc/set, 3 of takeover/loss/late/reap", ("inc a", "set a"), 3, "takeover", "loss", "late", "reap", beats=False),
    _scope("takeover, inherit, inc/set, 2 of takeover/loss/late/reap, beats", ("inc a", "set a"), 2, "takeover", "loss", "late", "reap", inherit=(True,)),
    _scope("takeover, inc/set, 2 of takeover/loss/late/wipe, beats", ("inc a", "set a"), 2, "takeover", "loss", "late", "wipe", inherit=(False, True)),
    _scope("takeover, inc/set, 2 of takeover/rollback/kill, beats", ("inc a", "set a"), 2, "takeover", "rollback", "kill", inherit=(False, True)),
    _scope("takeover twice, inc, 3 of takeover/kill/reap/expire", ("inc a",), 3, "takeover", "kill", "reap", "expire", inherit=(False, True), instances=1, actors=4),
    _scope("put/drop/inc/leave, 3 of loss/late/reap/expire", ("put a", "drop a", "inc a", "leave"), 3, "loss", "late", "reap", "expire", beats=False),
    _scope("put/drop/set, 2 of loss/late/wipe, beats", ("put a", "drop a", "set a"), 2, "loss", "late", "wipe"),
    _scope("3 instances, inc/set, 2 of loss/late/reap", ("inc a", "set a"), 2, "loss", "late", "reap", instances=3, beats=False),
    _scope("3 instances, inc/set/clear, 1 wipe, beats", ("inc a", "set a", "clear"), 1, "wipe", instances=3),
    _scope("3 instances, inc/set, 2 of wipe/kill", ("inc a", "set a"), 2, "wipe", "kill", instances=3, beats=False),
    _scope("2 keys, 2 ops, 2 of reap/wipe", ("inc a+inc b", "set a", "clear"), 2, "reap", "wipe", keys=("a", "b"), budgets=(0, 1, 50), operations=2, beats=False),
    _scope("2 keys, half reaped, 2 of reap/mute/kill, beats", ("inc a+inc b", "set a", "drop b"), 2, "reap", "mute", "kill", keys=("a", "b"), budgets=(0, 1, 50)),
    _scope("recent beats, 2 of loss/late/reap/wipe", ("inc a", "set a", "drop a"), 2, "loss", "late", "reap", "wipe", lazy=True, still=True),
    _scope("recent beats, 2 ops, 2 of collect/reap/kill", ("inc a", "set a"), 2, "collect", "reap", "kill", operations=2, lazy=True, still=True),
    _scope("opening, 3 of loss/late/wipe", ("inc a",), 3, "loss", "late", "wipe", instances=1, closed=True),
    _scope("opening, 2 of one id, 2 of loss/late/wipe/takeover", ("inc a",), 3, "loss", "late", "wipe", "takeover", instances=1, closed=True, inherit=(False, True)),
    _scope("reads, 2 of loss/late/reap/wipe, beats", ("inc a", "get a", "set a"), 2, "loss", "late", "reap", "wipe"),
)
