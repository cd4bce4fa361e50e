"""The life of a session: what may happen in each phase, and that nothing else changes anything."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Final

import pytest

from distkit_actors._instance._phases import (
    REQUESTS,
    TRANSITIONS,
    Event,
    Phase,
    ProtocolError,
    after,
)
from distkit_actors._instance._session import Session
from distkit_actors._protocol._messages import (
    Applied,
    Conflict,
    Entry,
    Journal,
    Kind,
    Load,
    Loaded,
    MustResume,
    Opened,
    Peeked,
    Periods,
    Previous,
    QueryPage,
    Rejection,
    Reply,
    Stale,
    Watched,
)

PERIODS: Final = Periods(30_000_000, 10_000_000, 3_600_000_000)
NEWS: Final = Journal(0, 0, 20)
INC: Final = Entry(Kind.ADD, "a", 1)
READ: Final = Entry(Kind.ADD, "a", 0)


def peeking(*, refuse: bool = False) -> Session:
    return Session("me", "nonce", PERIODS, inherit=True, refuse=refuse)


def opening() -> Session:
    session = peeking()
    session.receive(Peeked(0, 1))
    return session


def loading() -> Session:
    session = opening()
    session.receive(Opened(10, 0, inherited=True, leftovers=False))
    return session


def live() -> Session:
    """A session with a slice, whose batch is not answered."""
    session = loading()
    session.receive(Loaded("", [("a", 5, 3)]))
    session.begin([INC])
    return session


def resuming() -> Session:
    """A session that has sent the first piece, which brings back a slice."""
    session = live()
    session.receive(MustResume(None, 2))
    session.request()
    return session


def ended(reply: Reply) -> Session:
    session = live()
    session.receive(reply)
    return session


def left() -> Session:
    session = live()
    session.withdraw()
    session.begin([], leave=True)
    session.receive(Applied(15, ()))
    return session


def refused() -> Session:
    session = peeking(refuse=True)
    session.receive(Peeked(7, 1, alive=True))
    return session


SESSIONS: Final[dict[Phase, Callable[[], Session]]] = {
    Phase.PEEK: peeking,
    Phase.OPEN: opening,
    Phase.LOAD: loading,
    Phase.LIVE: live,
    Phase.RESUME: resuming,
    Phase.FENCED: lambda: ended(Conflict(11)),
    Phase.REFUSED: refused,
    Phase.LEFT: left,
}


def begin(session: Session) -> None:
    """Make up a batch, in place of the one that there may be."""
    session._batch = None
    session.begin([READ])


def leave(session: Session) -> None:
    """Have the store execute a batch that leaves."""
    if session.phase is Phase.LIVE:
        session.withdraw()
        session.begin([], leave=True)
        session.receive(Applied(15, ()))
    else:
        raise ProtocolError("only a batch leaves")


def refuse(session: Session) -> None:
    session._takeover.refuse = True
    session.receive(Peeked(7, 1, alive=True))


def hear(reply: Reply) -> Callable[[Session], object]:
    return lambda session: session.receive(reply)


#: How to make each event happen.
DOING: Final[dict[Event, Callable[[Session], object]]] = {
    Event.FREE: hear(Peeked(7, 1)),
    Event.HELD: refuse,
    Event.OPENED: hear(Opened(10, 0, inherited=False, leftovers=False)),
    Event.INHERITED: hear(Opened(10, 0, inherited=True, leftovers=False)),
    Event.LEFTOVERS: hear(Opened(10, 0, inherited=False, leftovers=True)),
    Event.PAGE: hear(Loaded("500", [("b", 1, 2)])),
    Event.LAST_PAGE: hear(Loaded("", [("b", 1, 2)])),
    Event.BEGUN: begin,
    Event.DONE: hear(Applied(15, (Previous(5, 5),), NEWS)),
    Event.WITHDRAWN: Session.withdraw,
    Event.PIECE: hear(Applied(15, (), NEWS, again=True)),
    Event.RESUMED: hear(Applied(15, (Previous(0, 0),), NEWS)),
    Event.LEFT: leave,
    Event.UNKNOWN: hear(MustResume(None, 2)),
    Event.CONFLICT: hear(Conflict(11)),
    Event.ABANDONED: Session.abandon,
}

#: An answer "executed" is one to a batch or one to a piece of a resume, whichever was asked.
SAME_ANSWER: Final = {
    (Phase.RESUME, Event.DONE): Event.RESUMED,
    (Phase.LIVE, Event.RESUMED): Event.DONE,
}

PAIRS: Final = [(phase, event) for phase in Phase for event in Event]


def state(session: Session) -> dict[str, object]:
    """Everything that a session knows; what is under way as plain values."""
    known = vars(session).copy()
    for name in ("own", "_takeover", "_batch", "_resumption"):
        part = known[name]
        known[name] = part and {slot: getattr(part, slot) for slot in part.__slots__}
    known["own"] |= {"withheld": list(session.withheld)}
    known["holds"] = session.holds.outstanding()
    return deepcopy(known)


def test_every_phase_has_a_row_and_every_event_a_use() -> None:
    assert set(TRANSITIONS) == set(SESSIONS) == set(Phase)
    assert {event for row in TRANSITIONS.values() for event in row} == set(DOING) == set(Event)


@pytest.mark.parametrize(("phase", "event"), PAIRS, ids=lambda x: x.name)
def test_an_event_leads_where_the_table_says_or_raises_and_changes_nothing(
    phase: Phase, event: Event
) -> None:
    session = SESSIONS[phase]()
    assert session.phase is phase
    target = TRANSITIONS[phase].get(SAME_ANSWER.get((phase, event), event))
    if target is not None:
        DOING[event](session)
        assert session.phase is target
        return
    with pytest.raises(ProtocolError):
        after(phase, event)
    if event is Event.HELD:
        session._takeover.refuse = True
    before = state(session)
    with pytest.raises(ProtocolError):
        DOING[event](session)
    assert state(session) == before


@pytest.mark.parametrize("phase", Phase, ids=lambda x: x.name)
def test_the_phase_says_what_is_sent(phase: Phase) -> None:
    request = SESSIONS[phase]().request()
    assert type(request) is REQUESTS.get(phase, type(None))


@pytest.mark.parametrize(
    ("make", "reply"),
    [
        (live, Applied(15, ())),
        (live, Applied(15, (Previous(5, 5), Previous(6, 6)), NEWS)),
        (live, Applied(15, (), NEWS, again=True)),
        (resuming, Applied(15, (), NEWS)),
        (resuming, Applied(15, (Previous(0, 0), Previous(0, 0)), NEWS)),
        (resuming, Applied(15, (Previous(0, 0),), NEWS, again=True)),
        *((make, reply) for make in SESSIONS.values() for reply in (Stale(), Watched())),
        (live, QueryPage("", ())),
    ],
)
def test_an_answer_that_does_not_fit_the_request_changes_nothing(
    make: Callable[[], Session], reply: Reply
) -> None:
    session = make()
    before = state(session)
    with pytest.raises(ProtocolError):
        session.receive(reply)
    assert state(session) == before


@pytest.mark.parametrize(
    "reply", [Applied(15, ()), MustResume(None, 2), Conflict(11), Peeked(0, 1)], ids=str
)
def test_an_answer_that_nobody_has_asked_for_changes_nothing(reply: Reply) -> None:
    session = live()
    session.withdraw()
    before = state(session)
    with pytest.raises(ProtocolError, match="in answer to None"):
        session.receive(reply)
    assert state(session) == before


def test_an_answer_to_a_part_that_was_not_sent_changes_nothing() -> None:
    session = live()
    session.receive(MustResume(None, 2))
    before = state(session)
    with pytest.raises(ProtocolError):
        session.receive(Applied(15, (Previous(0, 0),), NEWS))
    assert state(session) == before


def test_only_a_first_part_is_sent_once_more() -> None:
    session = resuming()
    session.receive(Applied(15, (), NEWS, again=True))
    assert session._resumption is not None
    session._resumption.first = False
    assert getattr(session.request(), "first", None) is False
    before = state(session)
    with pytest.raises(ProtocolError):
        session.receive(Applied(16, (), NEWS, again=True))
    assert state(session) == before


def test_there_is_one_batch_at_a_time() -> None:
    session = live()
    before = state(session)
    with pytest.raises(ProtocolError, match="before the one before it was answered"):
        session.begin([READ])
    assert state(session) == before


def test_a_batch_that_may_have_run_is_not_given_up() -> None:
    session = live()
    session.lost()
    before = state(session)
    with pytest.raises(ProtocolError, match="may have run"):
        session.withdraw()
    assert state(session) == before


@pytest.mark.parametrize("phase", Phase, ids=lambda x: x.name)
def test_a_lost_answer_changes_no_phase_and_not_the_request(phase: Phase) -> None:
    """But for a page that is loaded, which is asked for under the next number."""
    session = SESSIONS[phase]()
    request = session.request()
    session.lost()
    assert session.phase is phase
    if phase is Phase.LOAD:
        assert isinstance(request, Load)
        request = request._replace(seq=request.seq + 1)
    assert session.request() == request


def test_a_leave_in_doubt_is_done_if_there_is_no_record() -> None:
    session = live()
    session.withdraw()
    session.begin([INC], leave=True)
    session.lost()
    update = session.receive(MustResume(None, 2))
    assert (session.phase, update.results) == (Phase.LEFT, [Rejection.RETRY])
