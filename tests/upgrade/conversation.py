"""A conversation of a few counters and an onlooker with a store, in which every word is said.

Nothing in it is left to chance: not the nonces, nor the time, which the scripts are told. So any
two stores that keep the protocol answer the same. It is messages and not counters, so that a
counter may learn to say the same thing better without a word of it becoming another one.

The order of the scenes matters: each begins with what the one before has left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distkit_actors._namespace._epochs import ARCHIVE_AT_LEAST, JOURNAL_KEPT
from distkit_actors._protocol._conditions import Eq, Ge, Gt, Le, Lt, Ne
from distkit_actors._protocol._messages import (
    FOLD_LIMIT,
    JUST_COME,
    MAX_CHANGED,
    MAX_PURGE,
    Applied,
    Apply,
    Conflict,
    Entry,
    Forget,
    Forgotten,
    Kind,
    Load,
    Loaded,
    Mismatch,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Periods,
    Query,
    QueryKind,
    QueryPage,
    Reply,
    Request,
    Resume,
    Stale,
    Watch,
    Watched,
)
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN

#: With all that has a meaning in the name of a Redis key, or in one of its parts.
PREFIX = "words: {été} 100 %"
SECOND = 1_000_000
START = 1_700_000_000 * SECOND
PERIODS = Periods(30 * SECOND, 10 * SECOND, 3600 * SECOND)
PATIENT = Periods(90 * SECOND, 30 * SECOND, 3600 * SECOND)
ODD_ID = "i:{%7D}\n\0 höher"
#: Keys that look like something else: like a field of ours, a piece, a result, an announcement.
ODD_KEYS = (":", ":born", ":inc", "a@1", "1,2;3|?", "{x}", "%25", "a b\r\n\0", "þÿ 語 😀")


@dataclass
class Talk:
    """Tells the time, and passes on what is said.

    Attributes:
        ask: takes a title, the time in microseconds and a request, and returns the reply.
        mark: is called where it is worth while to look at the data, with a title.
    """

    ask: Callable[[str, int, Request], Reply]
    mark: Callable[[str], None]
    now: int = START

    def say(self, title: str, request: Request, *expected: type[Reply]) -> Reply:
        """Ask, and see that the answer is of the kind that the title speaks of."""
        self.now += 1000
        reply = self.ask(title, self.now, request)
        assert type(reply) in (expected or (Applied,)), (title, reply)
        return reply


@dataclass
class Voice:
    """One instance: what it has to remember to say the next thing."""

    talk: Talk
    instance: str
    periods: Periods = PERIODS
    about: str = '["ü","host",7,"0.1.0"]'
    partitions: int = 1
    incarnation: int = 0
    seq: int = 0
    known: int = 0
    born: int = 0
    opened: int = 0

    def comes(self, *, inherit: bool = False) -> Opened:
        """Look who holds the id, and take it."""
        found = self.talk.say(f"{self.instance!r} looks", Peek(self.instance), Peeked)
        assert isinstance(found, Peeked)
        self.born = found.born
        opened = self.talk.say(
            f"{self.instance!r} opens", self.open(found.incarnation, inherit=inherit), Opened
        )
        assert isinstance(opened, Opened)
        self.incarnation, self.known, self.seq = opened.incarnation, opened.known, 0
        return opened

    def open(self, expected: int, *, inherit: bool = False, refuse: bool = False) -> Open:
        self.opened += 1
        return Open(
            self.instance,
            f"nonce {self.opened} of {self.instance}",
            expected,
            self.born,
            inherit,
            self.periods,
            refuse,
            self.about,
            self.partitions,
        )

    def batch(
        self,
        *entries: Entry,
        leave: bool = False,
        budget: int = 0,
        atomic: bool = False,
        before: int | None = None,
    ) -> Apply:
        """Make up the next batch; it is not sent."""
        self.seq += 1
        return Apply(
            self.instance,
            self.incarnation,
            self.seq,
            self.known,
            self.periods,
            entries,
            leave,
            budget,
            atomic,
            before,
        )

    def does(
        self,
        title: str,
        *entries: Entry,
        leave: bool = False,
        budget: int = 0,
        atomic: bool = False,
        before: int | None = None,
    ) -> Applied:
        """Send a batch, and take in what has moved."""
        batch = self.batch(*entries, leave=leave, budget=budget, atomic=atomic, before=before)
        return self.hears(self.talk.say(title, batch))

    def hears(self, reply: Reply) -> Applied:
        assert isinstance(reply, Applied)
        if reply.journal is not None:
            self.known = max(self.known, reply.journal.latest)
        return reply

    def resume(
        self,
        born: int,
        *claims: Entry,
        first: bool = True,
        cleared: int = 0,
        moves: Sequence[tuple[str, int]] = (),
    ) -> Resume:
        self.seq += 1
        return Resume(
            self.instance,
            self.incarnation,
            self.seq,
            self.known,
            self.periods,
            born,
            first,
            cleared,
            moves,
            claims,
            self.about if first else "",
            self.partitions if first else 1,
        )


def add(key: str, value: int = 1, after: int | None = None) -> Entry:
    """An addition; to a key of which there is no slice unless ``after`` says what that becomes."""
    return Entry(Kind.ADD, key, value, value if after is None else after)


def put(key: str, value: int) -> Entry:
    return Entry(Kind.PUT, key, value)


def move(key: str, value: int) -> Entry:
    return Entry(Kind.MOVE, key, value)


def claim(key: str, value: int, after: int | None, stamp: int) -> Entry:
    return Entry(Kind.CLAIM, key, value, after, stamp=stamp)


def converse(talk: Talk) -> None:
    """Have all of the conversation."""
    anna = Voice(talk, "anna")
    bert = Voice(talk, "bert", PATIENT)
    odd = Voice(talk, ODD_ID)
    talk.mark("before anything was said")
    coming(talk, anna, bert, odd)
    counting(talk, anna, bert)
    odd_names(talk, odd)
    conditions(talk, anna)
    limits(talk, anna, bert)
    moving(talk, anna, bert)
    looking(talk, anna)
    dying_and_returning(talk, anna, bert)
    taking_over(talk, anna, bert, odd)
    forgetting(talk, anna, bert)
    healing(talk, anna, bert)
    many_at_once(talk, anna, bert)
    leaving(talk, anna, bert)
    in_other_parts(talk)
    very_many_moves(talk)


def coming(talk: Talk, anna: Voice, bert: Voice, odd: Voice) -> None:
    talk.say("a watch where nobody is", Watch("", 10), Watched)
    talk.mark("one only watches")
    talk.say("a batch of somebody unknown", anna.batch(add("a")), MustResume)
    anna.comes()
    talk.mark("one has come")
    again = Open("anna", "nonce 1 of anna", 0, anna.born, False, PERIODS, False, anna.about)
    talk.say("the same opening again", again, Opened)
    talk.say("an opening that has seen somebody else", anna.open(5), Conflict)
    held = anna.incarnation
    talk.say("an opening that disturbs nobody alive", anna.open(held, refuse=True), Conflict)
    late = Open("bert", "late", 0, anna.born - 1, False, PERIODS)
    talk.say("an opening that means another namespace", late, Conflict)
    spread = Open("bert", "spread", 0, anna.born, False, PERIODS, partitions=4)
    talk.say("an opening that spreads it over four parts", spread, Mismatch)
    bert.comes()
    odd.comes()
    talk.mark("three have come")


def counting(talk: Talk, anna: Voice, bert: Voice) -> None:
    anna.does("an addition before anybody watches", add("a", 5))
    talk.say("a watch", Watch("anna", 20 * SECOND), Watched)
    batch = anna.batch(add("a", 2, 7))
    anna.hears(talk.say("an addition to a slice", batch))
    talk.say("the same batch again", batch)
    talk.say("a batch from before", batch._replace(seq=anna.seq - 1), Stale)
    talk.say("a batch of an incarnation that is over", batch._replace(incarnation=1), Conflict)
    wrong = batch._replace(seq=anna.seq + 9, before=anna.seq + 8)
    talk.say("a batch behind one that was lost", wrong, MustResume)
    anna.seq += 3
    anna.does("a batch behind some that were given up", add("b", -1), before=anna.seq - 3)
    bert.does("several keys, one is only read", add("a", 10), add("b", 0, 0), add("c", 3))
    bert.does("a slice that becomes zero", add("c", -3, 0))
    folded = Entry(Kind.ADD, "a", 4, 14, folded=True)
    bert.does("several additions in one", folded)
    anna.does("a read", add("a", 0, 7))
    anna.does("a slice is replaced", put("a", 1))
    anna.does("slices are replaced and removed", put("a", 9), put("b", 0), put("d", 2))
    anna.does("all or none, and all", add("d", 1, 3), put("e", 2), atomic=True)
    bert.does("a heartbeat", budget=32)
    talk.mark("both have counted")


def odd_names(talk: Talk, odd: Voice) -> None:
    odd.does("keys that look like something else", *(add(key, 3) for key in ODD_KEYS))
    odd.does("and are replaced", *(put(key, 2) for key in ODD_KEYS[:4]))
    odd.does("and moved", *(move(key, 1) for key in ODD_KEYS[:3]))
    odd.does("and removed", *(put(key, 0) for key in ODD_KEYS[2:5]))
    talk.mark("odd keys")


def conditions(talk: Talk, anna: Voice) -> None:
    for kind in (Eq, Ne, Lt, Le, Gt, Ge):
        for value in (-20, 9, 30):
            of_own = [Entry(Kind.ADD, "a", 0, 9, condition=kind(value), of_own=True)]
            of_all = [Entry(Kind.ADD, "a", 0, 9, condition=kind(value))]
            anna.does(f"own {kind.sign} {value}", *of_own)
            anna.does(f"cumulative {kind.sign} {value}", *of_all)
    anna.does(
        "conditions that hold",
        Entry(Kind.ADD, "a", 1, 10, condition=Lt(100)),
        Entry(Kind.ADD, "new", 1, 1, condition=Eq(0), of_own=True),
    )
    anna.does(
        "conditions on what replaces",
        Entry(Kind.PUT, "a", 11, condition=Ge(10), of_own=True),
        Entry(Kind.PUT, "new", 11, condition=Gt(INT64_MAX)),
    )
    anna.does("a condition on a move", Entry(Kind.MOVE, "new", 4, condition=Ne(1)))
    anna.does("one that holds", Entry(Kind.MOVE, "new", 4, condition=Le(1)))


def limits(talk: Talk, anna: Voice, bert: Voice) -> None:
    anna.does("the largest and the smallest", add("top", INT64_MAX), add("bottom", INT64_MIN))
    bert.does("beyond them", add("top"), add("bottom", -1), add("room"))
    bert.does("all or none, and none", add("room", 1, 2), add("top"), put("a", 0), atomic=True)
    bert.does("a sum too long to fold", Entry(Kind.ADD, "top", -1, -1, folded=True))
    bert.does("the same beside others", Entry(Kind.ADD, "top", -1, -1, folded=True), put("room", 3))
    bert.does("a slice too large", put("top", 5))
    bert.does("the longest that is not", add("long", FOLD_LIMIT - 1))
    bert.does("is folded", Entry(Kind.ADD, "long", -1, FOLD_LIMIT - 2, folded=True))
    anna.does("the other way round", put("top", INT64_MIN), put("bottom", INT64_MAX))
    anna.does("away with them", put("top", 0), put("bottom", 0))
    own_too_large = Entry(Kind.ADD, "room", INT64_MAX)
    anna.does("a slice that would leave the range", own_too_large)
    bert.does("and the rest", put("room", 0), put("long", 0))
    talk.mark("at the limits")


def moving(talk: Talk, anna: Voice, bert: Voice) -> None:
    talk.say("a longer watch", Watch("anna", 3000 * SECOND), Watched)
    bert.does("a key is moved", move("a", 7))
    guarded = Entry(Kind.ADD, "a", -1, 8, guarded=True)
    anna.does("what is guarded, and moved unknown to the caller", guarded)
    anna.does("what is guarded, and not moved", Entry(Kind.ADD, "a", 2, 2, guarded=True))
    bert.does("two keys at once", move("d", 1), move("e", 0))
    anna.does("a move back and an addition", move("d", 5), add("e", 6))
    put_guarded = Entry(Kind.PUT, "d", 9, condition=Eq(9), of_own=True, guarded=True)
    bert.does("a guarded one that replaces", put_guarded)
    stamp = bert.does("a key of its own", add("mine", 2)).at
    anna.does("its move", move("mine", 1))
    bert.does(
        "claims, one of them void",
        claim("mine", 2, 2, stamp),
        claim("other", 2, 2, bert.known + 1),
        Entry(Kind.CLAIM, "other", 3, 5, stamp=bert.known + 1, guarded=True),
    )
    bert.does("a move to nothing, of a key that nobody has", move("ghost", 0))
    talk.mark("keys have moved")
    bert.does("a clear", Entry(Kind.CLEAR, "", 0))
    talk.mark("all is cleared")
    stamp = anna.does("an addition behind it", add("a", 3)).at
    bert.does("an addition of the one who cleared", add("a", 4))
    anna.does("a claim onto what is there", claim("a", 1, 4, stamp - 1))
    talk.mark("behind the clear")


def looking(talk: Talk, anna: Voice) -> None:
    anna.does("something to look at", add("b", 2), add(":born", 5))
    for instance, observed in (("anna", None), ("", JUST_COME), ("", talk.now - SECOND)):
        who = instance or f"an onlooker ({observed})"

        def look(kind: QueryKind, key: str = "", *keys: str) -> None:
            query = Query(instance, kind, key, "", keys, observed)  # noqa: B023 - called below
            talk.say(f"{who!r} asks for {kind.value}", query, QueryPage)  # noqa: B023

        look(QueryKind.INSTANCES)
        look(QueryKind.SLICES, "a")
        look(QueryKind.SLICES, ":born")
        look(QueryKind.KEYS)
        look(QueryKind.VALUES, "", "a", ":born", "nothing")
        look(QueryKind.HELD, "anna")
        look(QueryKind.HELD, "nobody")


def dying_and_returning(talk: Talk, anna: Voice, bert: Voice) -> None:
    bert.does("the last before a long silence", add("c", 8))
    for _ in range(11):
        talk.now += 10 * SECOND
        anna.does("a heartbeat that takes nothing away")
    for instance, observed in (("anna", None), ("", talk.now)):
        for kind in (QueryKind.VALUES, QueryKind.SLICES):
            look = Query(instance, kind, "c", "", ["c", "a"], observed)
            talk.say(f"{instance!r} sees that the others are dead", look, QueryPage)
    anna.does("a heartbeat", budget=32)
    talk.mark("the others are dead")
    talk.say("who is there", Query("anna", QueryKind.INSTANCES), QueryPage)
    talk.say("their values", Query("", QueryKind.VALUES, keys=["a", "c"], observed=0), QueryPage)
    found = talk.say("one of them is back", bert.batch(add("c", 1, 9)), MustResume)
    assert isinstance(found, MustResume)
    stamp = bert.known + 1
    claims = claim("c", 8, 8, stamp), claim("a", 4, 4, stamp)
    anna.does("a move meanwhile", move("a", 1))
    bert.hears(talk.say("it tells what it had", bert.resume(found.born, *claims)))
    more = bert.resume(found.born, claim("f", 1, 1, stamp), first=False)
    bert.hears(talk.say("and the rest", more))
    talk.say("once more", more)
    bert.does("and counts", add("c", 1, 9))
    talk.mark("one has returned")


def taking_over(talk: Talk, anna: Voice, bert: Voice, odd: Voice) -> None:
    odd.comes()
    odd.does("a fresh start of a dead id", add("a", 2), add("g", 1))
    heir = Voice(talk, "bert", PERIODS, about='[null,"elsewhere"]', born=bert.born, opened=1)
    heir.comes(inherit=True)
    heir.seq += 1
    load = Load("bert", heir.incarnation, heir.seq, "")
    talk.say("what it inherits", load, Loaded)
    talk.say("the same page again", load, Loaded)
    talk.say("with the wrong incarnation", Load("bert", 1, heir.seq, ""), Conflict)
    talk.say("with one from the future", Load("bert", heir.incarnation + 1, 1, ""), MustResume)
    talk.say("the one before is fenced", bert.batch(add("c", 1, 10)), Conflict)
    heir.does("the heir counts on", add("c", 1, 10))
    talk.mark("one has inherited")
    other = Voice(talk, "bert", PATIENT, born=bert.born, opened=2)
    other.comes()
    other.does("one starts afresh", add("c", 2))
    bert.incarnation, bert.seq, bert.known = other.incarnation, other.seq, other.known
    bert.opened = other.opened
    talk.mark("one has started afresh")


def forgetting(talk: Talk, anna: Voice, bert: Voice) -> None:
    anna.does("one forgets itself", Entry(Kind.FORGET, "anna", 0))
    anna.does(
        "and two others",
        Entry(Kind.FORGET, ODD_ID, 0),
        Entry(Kind.FORGET, "nobody", 0),
        budget=32,
    )
    talk.say("an onlooker forgets one", Forget("", "bert"), Forgotten)
    talk.say("and nobody", Forget("", "nobody"), Forgotten)
    talk.mark("two are forgotten")


def healing(talk: Talk, anna: Voice, bert: Voice) -> None:
    found = talk.say("a forgotten one", bert.batch(), MustResume)
    assert isinstance(found, MustResume)
    wrong = bert.resume(found.born - 1)
    talk.say("it answers another namespace", wrong, MustResume)
    late = talk.now
    bert.hears(
        talk.say(
            "it knows of moves that the store has lost",
            bert.resume(
                found.born,
                claim("a", 5, 5, late),
                claim("h", INT64_MAX, INT64_MAX, late),
                claim("h", 1, None, late),
                moves=[("a", late), (":born", late + 1)],
            ),
        )
    )
    talk.mark("moves are told late")
    anna.does("another hears of them", add("a"), add("h", -5))
    cleared = talk.now + 5
    piece = bert.resume(found.born, claim("a", 6, 6, cleared + 1), first=False, cleared=cleared)
    bert.hears(talk.say("it knows of a clear that the store has lost", piece))
    talk.say("another has to tell what it has, too", anna.batch(add("a")), MustResume)
    told = anna.resume(found.born, claim("a", 1, 1, cleared + 2), cleared=cleared)
    anna.hears(talk.say("and does", told))
    talk.mark("a clear is told late")
    talk.now -= 5 * SECOND
    anna.does("the clock jumps back", add("a", 1, 2), budget=32)
    talk.now += 100 * SECOND
    look = Query("anna", QueryKind.INSTANCES)
    talk.say("one looks that was silent, as all were", look, QueryPage)
    anna.does("nobody was heard for long", add("a", 1, 3), budget=32)
    for _ in range(7):
        talk.now += 10 * SECOND
        anna.does("a heartbeat", budget=32)
    talk.say("the other one is given more time", look, QueryPage)
    talk.mark("behind a jump and a blackout")
    bert.does("it is back", budget=32)
    talk.now += 45 * SECOND
    bert.does("and a little late", budget=32)
    anna.does("the first one is alive", budget=32)
    emil = Voice(talk, "emil", incarnation=talk.now, known=anna.known, born=anna.born)
    lost = talk.say("one whom the store has lost", emil.batch(), MustResume)
    assert isinstance(lost, MustResume)
    emil.hears(talk.say("comes back", emil.resume(lost.born, claim("a", 2, 2, talk.now))))
    emil.does("and leaves", put("a", 0), leave=True)
    talk.mark("one who was lost has come and gone")


def many_at_once(talk: Talk, anna: Voice, bert: Voice) -> None:
    keys = [f"k{number}" for number in range(MAX_CHANGED + 1)]
    bert.does("more than an announcement names", *map(add, keys))
    cleo = Voice(talk, "cleo")
    cleo.comes()
    anna.does("what cannot be taken away", add("full", -2))
    bert.does("because it fills up", add("full", INT64_MAX))
    cleo.does("to the brim", add("full", 1), add("i", 2), add("j", 3))
    anna.comes()
    bert.does("who starts afresh leaves it to nobody", budget=32)
    talk.mark("something is stuck")
    cleo.does("one leaves slices behind", leave=True)
    for kind in (QueryKind.VALUES, QueryKind.INSTANCES):
        look = Query("bert", kind, keys=["full", "i"])
        talk.say("they are in the queue", look, QueryPage)
    bert.does("a part of them, of the keys that are asked for", add("i", 0, 0), budget=1)
    bert.does("the rest, which makes room for the other", put("full", 5), budget=32)
    talk.mark("nothing is stuck")
    keys = [f"l{number}" for number in range(2 * MAX_PURGE)]
    bert.does("more slices than two steps remove", *map(add, keys))
    found = bert.comes()
    assert found.leftovers
    talk.say("still too many leftovers for a step", bert.resume(bert.born))
    again = bert.resume(bert.born, claim("a", 1, 1, bert.known + 1))
    bert.hears(talk.say("and the rest of them", again))
    talk.mark("leftovers went in pieces")


def leaving(talk: Talk, anna: Voice, bert: Voice) -> None:
    anna.does("a move that all have heard of", move("a", 1))
    bert.does("it is heard")
    bert.does("and known")
    bert.does("one leaves nothing", put("a", 0), leave=True)
    talk.now += 3700 * SECOND
    talk.say("the watch is over", Query("anna", QueryKind.KEYS), QueryPage)
    anna.does("a move is forgotten", add("a", 0, 1), budget=32)
    talk.mark("long afterwards")
    batch = anna.batch(put("a", 0), leave=True)
    anna.hears(talk.say("the last one leaves", batch))
    talk.say("and asks again what became of it", batch)
    talk.mark("nobody is there")


def in_other_parts(talk: Talk) -> None:
    carl = Voice(talk, "carl", partitions=2)
    carl.comes()
    carl.does("one who spreads it over two parts", add("a", 1))
    talk.say("a look", Query("", QueryKind.INSTANCES, observed=JUST_COME), QueryPage)
    dora = Voice(talk, "dora", born=carl.born)
    talk.say("one who does not", dora.open(0), Mismatch)
    dora.incarnation = carl.incarnation + 1
    talk.say("nor returns", dora.resume(carl.born), Mismatch)
    talk.now += 100 * SECOND
    dora.comes()
    talk.mark("one is dead, and the other has another number of parts")
    talk.say("it is back", carl.batch(add("a", 1, 2)), MustResume)
    talk.say("and may not", carl.resume(carl.born), Mismatch)


def very_many_moves(talk: Talk) -> None:
    emma, paul = Voice(talk, "emma"), Voice(talk, "paul")
    emma.comes()
    paul.comes()
    born = paul.does("counts", add("n0", 1), add("n1", 2), add("z", 3)).at
    for _ in range(12):
        talk.now += 10 * SECOND
        emma.does("the others are silent", budget=32)
    emma.does("very many moves", *(move(f"n{number}", 0) for number in range(JOURNAL_KEPT)))
    emma.does("some more", *(move(f"o{number}", 0) for number in range(ARCHIVE_AT_LEAST)))
    talk.mark("the first of them are archived")
    lost = talk.say("one whose slices are void", paul.batch(), MustResume)
    assert isinstance(lost, MustResume)
    claims = [claim(key, value, value, born) for key, value in (("n0", 1), ("z", 3), ("o1", 0))]
    paul.hears(talk.say("it comes back, and asks of a hold", paul.resume(lost.born, *claims)))
    paul.does("it leaves", put("z", 0), leave=True)
    for _ in range(20):
        talk.now += 200 * SECOND
        emma.does("an hour passes", budget=32)
    talk.mark("the archive is forgotten")
    emma.does("the last one leaves", leave=True)
