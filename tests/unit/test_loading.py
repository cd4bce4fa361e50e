"""What an heir loads is as safe from a store that loses data as what it does later."""

from __future__ import annotations

from copy import deepcopy

import pytest

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import (
    MAX_PURGE,
    Applied,
    Entry,
    Forget,
    Kind,
    Loaded,
    MustResume,
    Periods,
)

PERIODS = Periods(3_000_000, 1_000_000, 600_000_000)


class Store:
    """A namespace whose clock moves with each request."""

    def __init__(self) -> None:
        self.namespace, self.now = Namespace(), 1_000_000

    def ask(self, session: Session) -> object:
        request = session.request()
        assert request is not None
        self.now += 1
        reply = self.namespace.execute(request, self.now)
        session.receive(reply)
        return reply

    def all(self, session: Session, *entries: Entry) -> object:
        """Begin a batch, and ask until nothing is outstanding."""
        if entries:
            session.begin(entries)
        reply: object = None
        while session.request() is not None:
            reply = self.ask(session)
        return reply


def joined(store: Store, instance: str, nonce: str, *, inherit: bool = False) -> Session:
    session = Session(instance, nonce, PERIODS, inherit=inherit)
    store.all(session)
    return session


def heir_to_be(store: Store) -> Session:
    heir = Session("a", "new", PERIODS, inherit=True)
    while heir.phase is not Phase.LOAD:
        store.ask(heir)
    return heir


def test_a_store_that_goes_back_behind_what_was_loaded_is_noticed() -> None:
    """The newcomer was told of no slice, as a move had made it void: the store has it again."""
    store = Store()
    old = joined(store, "a", "old")
    other = joined(store, "b", "other")
    store.all(old, Entry(Kind.ADD, "k", 1))
    heir = heir_to_be(store)
    before = deepcopy(store.namespace)
    store.all(other, Entry(Kind.MOVE, "k", 70))
    store.all(heir)
    assert heir.slices == {}

    store.namespace = before
    heir.begin([Entry(Kind.ADD, "k", 100)])
    assert isinstance(store.ask(heir), MustResume)
    store.all(heir)
    store.all(heir, Entry(Kind.ADD, "k", 100))
    registry = store.namespace.registry
    assert registry.total("k") == registry.records["a"].slices["k"].value == 100


@pytest.mark.parametrize("where", ["of the first page", "of the second page", "of both"])
def test_a_move_that_the_store_hears_of_late_takes_no_slice_out_of_all_pages(where: str) -> None:
    """It takes the slices of its keys away, between two pages."""
    store = Store()
    old = joined(store, "a", "old")
    other = joined(store, "b", "other")
    keys = [f"k{number:04}" for number in range(3 * MAX_PURGE)]
    for first in range(0, len(keys), MAX_PURGE):
        store.all(old, *(Entry(Kind.ADD, key, 1) for key in keys[first : first + MAX_PURGE]))
    before = deepcopy(store.namespace)
    pages = {"of the first page": [0], "of the second page": [1], "of both": [0, 1]}[where]
    moved = [keys[page * MAX_PURGE + 7] for page in pages]
    store.all(other, *(Entry(Kind.MOVE, key, 0) for key in moved))
    store.namespace = before

    heir = heir_to_be(store)
    assert isinstance(page := store.ask(heir), Loaded)
    assert page.cursor
    store.all(other, Entry(Kind.ADD, "mine", 1))
    assert not store.namespace.registry.records["a"].slices.keys() & {*moved}
    store.all(heir)
    assert set(keys) - heir.slices.keys() <= {*moved}
    store.all(heir, Entry(Kind.ADD, "mine", 1))
    assert heir.slices.keys() == set(keys) - {*moved} | {"mine"}


def test_an_heir_that_missed_an_answer_begins_to_load_again() -> None:
    """What it has loaded before may be more than the store has now."""
    store = Store()
    old = joined(store, "a", "old")
    store.all(old, Entry(Kind.ADD, "k", 1))
    heir = heir_to_be(store)
    first = heir.request()
    heir.receive(Loaded("more", [("gone", 5, 1)]))
    heir.lost()
    assert heir.request() != first
    store.all(heir)
    assert {key: piece.value for key, piece in heir.slices.items()} == {"k": 1}


def test_a_late_copy_of_a_load_changes_nothing() -> None:
    store = Store()
    store.all(joined(store, "a", "old"), Entry(Kind.ADD, "gone", 1))
    heir = heir_to_be(store)
    late = heir.request()
    assert late is not None
    store.all(heir)
    for number in (1, 2):
        store.all(heir, Entry(Kind.ADD, "k", number))
    store.namespace.execute(late, store.now + 1)
    assert isinstance(store.all(heir, Entry(Kind.ADD, "k", 4)), Applied)
    assert store.namespace.registry.total("k") == 7


def owner_of_many(store: Store) -> Session:
    """Return one who holds more slices than three steps throw away."""
    owner = joined(store, "a", "owner")
    keys = [f"k{number:04}" for number in range(4 * MAX_PURGE)]
    for first in range(0, len(keys), MAX_PURGE):
        store.all(owner, *(Entry(Kind.ADD, key, 1) for key in keys[first : first + MAX_PURGE]))
    return owner


def newcomer(store: Store) -> Session:
    """Return one who has taken over from one with many slices, and starts empty."""
    owner_of_many(store)
    session = Session("a", "newcomer", PERIODS)
    while session.phase is not Phase.RESUME:
        store.ask(session)
    return session


def forgotten(store: Store, owner: Session) -> Session:
    """Have an owner of many slices taken for dead, and let it begin to come back."""
    store.namespace.execute(Forget("", "a"), store.now)
    owner.begin([])
    assert isinstance(store.ask(owner), MustResume)
    return owner


@pytest.mark.parametrize("who", ["a newcomer", "one who returns", "an heir who returns"])
@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_what_is_being_thrown_away_is_not_inherited(who: str, pieces: int) -> None:
    """Whoever was throwing it away was replaced before all of it was gone."""
    store = Store()
    if who == "a newcomer":
        session = newcomer(store)
    else:
        session = owner_of_many(store)
        if who == "an heir who returns":
            session = joined(store, "a", "first heir", inherit=True)
        session = forgotten(store, session)
    for _ in range(pieces):
        assert isinstance(reply := store.ask(session), Applied)
        assert reply.again
    heir = joined(store, "a", "heir", inherit=True)
    assert heir.slices == {}
    assert store.namespace.registry.sums == {}
    store.all(heir, Entry(Kind.ADD, "mine", 1))
    assert store.namespace.registry.sums == {"mine": 1}


def test_what_a_newcomer_has_counted_itself_is_inherited() -> None:
    store = Store()
    store.all(newcomer(store))
    session = joined(store, "a", "next")
    store.all(session, Entry(Kind.ADD, "k", 3))
    heir = joined(store, "a", "heir", inherit=True)
    assert {key: piece.value for key, piece in heir.slices.items()} == {"k": 3}


def test_the_heir_of_one_who_is_loading_inherits_all() -> None:
    store = Store()
    owner = owner_of_many(store)
    store.ask(heir_to_be(store))
    heir = joined(store, "a", "second heir", inherit=True)
    assert heir.slices == owner.slices


def test_the_heir_of_one_who_has_done_nothing_starts_empty() -> None:
    store = Store()
    joined(store, "a", "old")
    heir = joined(store, "a", "heir", inherit=True)
    assert heir.slices == {}
    store.all(heir, Entry(Kind.ADD, "k", 1))
    assert store.namespace.registry.sums == {"k": 1}
