"""An operation on several parts: cut into one for each, given to all at once, put together again.

The shares of an operation are put into the mailboxes in one go, so that the order of calls holds
in each part (P44, parts). A share that fails does not stop the others. The caller is told of all
that failed, and of what has taken effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._errors import DistkitError
from .._protocol._messages import MAX_ENTRIES, ConditionFailed, Entry
from .._protocol._partitions import part_of
from ._actor import Actor
from ._groups import first_of
from ._operations import AtomicBatch, Joint, Operation, SpecialOperation


def steps_of(entries: Sequence[Entry], parts: int) -> Iterator[Sequence[Entry]]:
    """Cut entries into what may travel in one step of each part."""
    step: list[Entry] = []
    counts = [0] * parts
    for entry in entries:
        part = part_of(entry.key, len(counts))
        if counts[part] == MAX_ENTRIES:
            yield step
            step, counts = [], [0] * parts
        counts[part] += 1
        step.append(entry)
    if step:
        yield step


def shares_of(keys: Sequence[str], parts: int) -> Sequence[Sequence[str]]:
    """Divide keys among the parts that they are in."""
    found: dict[int, list[str]] = {}
    for key in keys:
        found.setdefault(part_of(key, parts), []).append(key)
    return list(found.values()) or [()]


async def ask_all(parts: Sequence[Actor], operation: Operation) -> None:
    """Have each part do ``operation``, which is about no key. A checkpoint."""
    shares = [SpecialOperation(operation.kind, operation.key) for _ in parts]
    joint = await _ask_each(list(zip(parts, shares, strict=True)))
    if joint.errors:
        error = _failure(joint, shares)
        done = len(shares) - len(joint.errors)
        error.add_note(f"it has taken effect in {done} of {len(shares)} parts")
        raise error


async def ask_batch(parts: Sequence[Actor], batch: AtomicBatch) -> None:
    """Have each part execute the entries on its keys: in each part all or none. A checkpoint."""
    places: dict[int, list[int]] = {}
    for place, entry in enumerate(batch.entries):
        places.setdefault(part_of(entry.key, len(parts)), []).append(place)
    if len(places) == 1:
        (number,) = places
        await parts[number].ask(batch)
        return
    if not places:  # it is a sign of life, and looks for news
        places = {number: [] for number in range(len(parts))}
    shares = {
        number: AtomicBatch([batch.entries[place] for place in some])
        for number, some in places.items()
    }
    joint = await _ask_each([(parts[n], share) for n, share in shares.items()])
    if joint.errors:
        error = _failure(joint, list(shares.values()))
        if isinstance(error, DistkitError):
            done = sorted(
                place
                for number, share in shares.items()
                if share not in joint.errors
                for place, result in zip(places[number], share.results, strict=True)
                if not isinstance(result, ConditionFailed)
            )
            error.applied = tuple(batch.entries[place].key for place in done)
        raise error
    found = {
        place: result
        for number, share in shares.items()
        for place, result in zip(places[number], share.results, strict=True)
    }
    batch.results = [found[place] for place in range(len(batch.entries))]


async def _ask_each(shares: Sequence[tuple[Actor, SpecialOperation]]) -> Joint:
    for part, _ in shares:
        if not part.open:
            part.check_open()
    joint = Joint([share for _, share in shares])
    for part, share in shares:
        part.mailbox.put(share)
        if part.mailbox.length == 1:
            part.send_now_or_wake()
    await joint.wait()
    return joint


def _failure(joint: Joint, shares: Sequence[SpecialOperation]) -> Exception:
    """Return the error of the first share that failed, with those of the others in its notes."""
    return first_of([joint.errors[share] for share in shares if share in joint.errors])
