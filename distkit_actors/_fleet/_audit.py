"""Whether a namespace, and the store that it is in, are as they should be."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

import trio

from .._actor._groups import all_of
from .._actor._log import Log
from .._errors import StoreError, StoreUnavailableError
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import JUST_COME, Peek, Query, QueryKind, QueryPage
from .._protocol._values import checked_name
from .._stores._contract import Link, NotPermittedError, Store
from ._inquiry import Inquiry
from ._pages import all_rows
from ._part import number_of_parts

#: From harmless to bad.
Level: TypeAlias = Literal["ok", "note", "warning", "wrong"]

#: How often a key is looked at whose slices do not add up, as others count meanwhile.
_LOOKS: Final = 40
#: A key is wrong if so many looks in a row find a difference that others do not explain.
#: A look reads the sum, then the slices, then the sum again, and others may count in between.
#: If they only add, or only take away, what the slices of a right key add up to is not less than
#: the smaller sum, and not more than the larger one. A look that finds this proves nothing, unless
#: it, or several in a row together, leave no room for any difference.
#: The difference of damage is constant, so one number must fit all looks in a row.
#: Others may count to and fro, too. If a key flips between two values, up to one look in four finds
#: a difference by chance, and up to one in eight a given one. Ten in a row come a few times in a
#: billion.
_SAME: Final = 10
#: Longest pause before the next look, in seconds. It is random, lest looks keep step with a key.
_LONGEST_PAUSE: Final = 0.005
#: How many keys are looked at again together. Once one is wrong, the others are only counted.
_LOOKED_AT: Final = 200
#: How many such keys are named.
_NAMED: Final = 10
#: Seconds for which the store's clock is observed, and by how much it may differ in them.
_CLOCK_SECONDS: Final = 1.0
_CLOCK_SLACK: Final = 0.25


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    about: str
    text: str


async def audit(prefix: str, store: Store) -> list[Finding]:
    """Look at everything that can be seen without changing anything. Takes a second or more.

    A checkpoint. Raises `StoreUnavailableError` or `StoreError` if one may not even look.
    """
    checked_name(prefix, "prefix")
    first = store if store.partitions == 1 else store.part(0)
    async with first.link(prefix) as link:
        number = await number_of_parts(prefix, store, Inquiry(Log(prefix, store, "fleet"), link))
    places = [first, *(store.part(n) for n in range(1, number))]
    return _of_all(await all_of([partial(_audit_part, prefix, place) for place in places]))


def _of_all(parts: Sequence[list[Finding]]) -> list[Finding]:
    """Return once what is so in all parts, and else say of which it is said."""
    common = set(parts[0]).intersection(*parts[1:])
    own = [
        finding._replace(text=f"part {number}: {finding.text}")
        for number, findings in enumerate(parts)
        for finding in findings
        if finding not in common
    ]
    return [finding for finding in parts[0] if finding in common] + own


async def _audit_part(prefix: str, store: Store) -> list[Finding]:
    """Look at one part."""
    async with store.link(prefix) as link:
        inquiry = Inquiry(Log(prefix, store, "fleet"), link)
        await inquiry.start()
        begun = await _store_time(link)
        found = [Finding("ok", "reach", "the store answers, and may be read")]
        found += await _set_up(link)
        try:
            found += await _instances(inquiry, link)
            found += await _sums(inquiry)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            found.append(Finding("wrong", "state", f"the namespace cannot be read: {error}"))
        await trio.sleep_until(begun.answered + _CLOCK_SECONDS)
        found.append(_clock(begun, await _store_time(link)))
    return found


class _Instant(NamedTuple):
    """What the store's clock was, and between which instants of ours."""

    asked: float
    at: int
    answered: float


async def _store_time(link: Link) -> _Instant:
    asked = trio.current_time()
    # As one who has just come, because an inquiry does not see jumps of the clock.
    page = await link.exchange(Query("", QueryKind.VALUES, observed=JUST_COME))
    assert isinstance(page, QueryPage)
    return _Instant(asked, page.at, trio.current_time())


def _clock(first: _Instant, last: _Instant) -> Finding:
    theirs = (last.at - first.at) / MICROSECONDS
    # Each question and each answer may have taken its time.
    least, most = last.asked - first.answered, last.answered - first.asked
    if 0.9 * least - _CLOCK_SLACK <= theirs <= 1.1 * most + _CLOCK_SLACK:
        return Finding("ok", "clock", "the store's clock runs as fast as ours")
    return Finding(
        "warning",
        "clock",
        f"the store's clock went on by {theirs:.1f} s in {most:.1f} s: it jumps, or it stands "
        "still",
    )


async def _set_up(link: Link) -> list[Finding]:
    try:
        warnings = await link.inspect()
    except StoreUnavailableError:
        raise
    except StoreError as error:
        text = f"how the store is set up cannot be seen: {error}"
        return [Finding("note", "eviction", text)]  # noqa: ASYNC910 - asking was one
    if warnings:
        return [Finding("wrong", "eviction", warning) for warning in warnings]
    return [Finding("ok", "eviction", "the store does not evict keys, as far as can be seen")]


async def _rights(link: Link) -> Finding:
    """See whether the user of this URL could count, too. The namespace must be there.

    If the store refuses this for another reason than the user's rights, it refuses it to all.
    """
    try:
        await link.exchange(Peek(""))
    except StoreUnavailableError:
        raise
    except StoreError as error:
        await link.connect()  # noqa: ASYNC120 - a refusal may end the connection
        if isinstance(error, NotPermittedError):
            text = f"the user of this URL may look, but not count: {error}"
            return Finding("note", "rights", text)
        return Finding("wrong", "rights", f"nobody can count now: {error}")
    return Finding("ok", "rights", "the user of this URL may count")


async def _instances(inquiry: Inquiry, link: Link) -> list[Finding]:
    rows = await all_rows(inquiry.exchange, QueryKind.INSTANCES)
    ages = {name: age / MICROSECONDS for name, age, _ in rows}
    dead = [name for name, alive in {name: alive for name, _, alive in rows}.items() if not alive]
    living = len(ages) - len(dead)
    if not ages:
        return [Finding("note", "empty", "there are no instances, and nothing is left of any")]
    rights = await _rights(link)
    found: list[Finding] = []
    if dead:
        longest = max(ages[name] for name in dead)
        if living:
            then = "those alive will clear that away"
        elif rights.level == "ok":
            then = "no instance is alive that would clear that away (forget does)"
        else:  # what refuses us may refuse them, and who cannot write is not heard
            then = "they may live, and not be heard, if the store takes no writes (see the rights)"
        found.append(
            Finding(
                "note" if living else "warning",
                "dead",
                ("1 dead instance is" if len(dead) == 1 else f"{len(dead)} dead instances are")
                + f" still in the store, silent for up to {longest:.0f} s: {then}",
            )
        )
    return [*found, Finding("ok", "instances", f"{living} alive"), rights]


async def _sums(inquiry: Inquiry) -> list[Finding]:
    """See whether each sum is that of its slices (I1), the dead included on both sides."""
    slices = Counter[str]()
    for name in {name for name, _, _ in await all_rows(inquiry.exchange, QueryKind.INSTANCES)}:
        held = await all_rows(inquiry.exchange, QueryKind.HELD, name)
        slices.update({key: value for key, value, _ in held})
    sums = {key: value for key, value, _ in await all_rows(inquiry.exchange, QueryKind.KEYS)}
    keys = sums.keys() | slices.keys()
    suspects = sorted(key for key in keys if sums.get(key, 0) != slices[key])
    wrong: list[Finding] = []
    while suspects and all(finding.level != "wrong" for finding in wrong):
        wrong += await _settled(inquiry, suspects[:_LOOKED_AT])
        suspects = suspects[_LOOKED_AT:]
    wrong.sort(key=lambda finding: finding.level != "wrong")
    found = list(_named(wrong))
    if suspects:
        found.append(
            Finding("wrong", "sums", f"{len(suspects)} more keys did not add up in one look")
        )
    if not found:
        return [
            Finding("ok", "sums", f"the slices of {len(keys)} key{'s' * (len(keys) != 1)} add up")
        ]
    return found


def _named(wrong: list[Finding]) -> Iterable[Finding]:
    yield from wrong[:_NAMED]
    if len(wrong) > _NAMED:
        text = f"so it is with {len(wrong) - _NAMED} more keys"
        yield Finding(wrong[0].level, "sums", text)


async def _settled(inquiry: Inquiry, suspects: Sequence[str]) -> list[Finding]:
    """Look at keys until each is known to be fine or wrong, or has changed in too many looks."""
    found: list[Finding] = []
    seen = dict.fromkeys(suspects, _NO_ROW)
    for _ in range(_LOOKS):
        for key in list(seen):
            before, added, after = await _look_at(inquiry, key)
            least, most = sorted((before - added, after - added))
            seen[key] = row = seen[key].followed_by(least, most)
            wrong = row.looks == _SAME and not row.fits_none
            if wrong:
                found.append(_off(key, after, added))
            if wrong or row.least == row.most == 0:
                del seen[key]
        if not seen:
            return found  # noqa: ASYNC910 - there were looks before, and here
        await trio.sleep(random.uniform(0, _LONGEST_PAUSE))
    restless = (f"{key!r} changes too fast to be looked at" for key in seen)
    return found + [Finding("note", "sums", text) for text in restless]  # noqa: ASYNC910 - as above


class _Row(NamedTuple):
    """Looks in a row at a key, and between what the difference is that fits all of them."""

    least: float
    most: float
    looks: int

    @property
    def fits_none(self) -> bool:
        """Whether there may be no difference, which is so in each look or in none."""
        return self.least <= 0 <= self.most

    def followed_by(self, least: int, most: int) -> _Row:
        """Return the row with one more look, or a new one if that does not fit."""
        look = _Row(least, most, 1)
        if look.fits_none != self.fits_none or most < self.least or self.most < least:
            return look
        return _Row(max(self.least, least), min(self.most, most), self.looks + 1)


_NO_ROW: Final = _Row(-math.inf, math.inf, 0)


def _off(key: str, total: int, added: int) -> Finding:
    return Finding(
        "wrong",
        "sums",
        f"the cumulative of {key!r} is {total}, and its slices add up to {added}: somebody "
        "has deleted or changed keys of the namespace by hand, or the server has evicted "
        "them (set or delete of the key makes it right)",
    )


async def _look_at(inquiry: Inquiry, key: str) -> tuple[int, int, int]:
    """Return the cumulative of a key, what its slices add up to, and the cumulative after that."""
    before = await _stored(inquiry, key)
    rows = await all_rows(inquiry.exchange, QueryKind.SLICES, key)
    added = sum({name: value for name, value, _ in rows}.values())
    return before, added, await _stored(inquiry, key)


async def _stored(inquiry: Inquiry, key: str) -> int:
    rows = await all_rows(inquiry.exchange, QueryKind.VALUES, "", (key,))
    return next(value for _, value, of_all in rows if of_all)
