"""Random histories of operations and faults, which stack up: only now and then all is healed.

`DISTKIT_HISTORIES=1000` makes it that many, `DISTKIT_SEED` chooses which; a failing one is
shortened and printed as a list of steps.
"""

import os

import hypothesis
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.faults.world import HEARTBEAT, KEYS, KINDS, THRESHOLD, Step, live_through
from tests.harness import unique_prefix
from tests.harness.server import RedisServer

HISTORIES = int(os.environ.get("DISTKIT_HISTORIES", "6"))
SEED = int(os.environ.get("DISTKIT_SEED", "1"))

_who = st.sampled_from(range(len(KINDS)))
_key = st.sampled_from(KEYS)
_moved = st.sampled_from([key for key in KEYS if "moved" in key])
_held = st.sampled_from([key for key in KEYS if "held" in key])
_counts = st.one_of(
    st.tuples(st.just("do"), _who, st.sampled_from(["inc", "inc_if", "inc_all"]), _key),
    st.tuples(
        st.just("do"),
        _who,
        st.sampled_from(["inc", "set_on_instance", "delete_on_instance"]),
        st.sampled_from([key for key in KEYS if "held" not in key]),
    ),
)
_holds = st.one_of(
    st.tuples(st.just("do"), _who, st.just("hold"), _held), st.tuples(st.just("leave"), _who)
)
_moves = st.one_of(
    st.tuples(st.just("do"), _who, st.sampled_from(["set", "delete"]), _moved),
    st.tuples(st.just("do"), _who, st.just("clear"), st.just("plain")),
)
_reads = st.tuples(st.just("read"), _who, _key)
_links = st.tuples(
    st.just("link"),
    _who,
    st.sampled_from(
        [
            "drop_request",
            "drop_reply",
            "duplicate",
            "late_copy",
            "cut_reply_midframe",
            "hang_reply",
            "cut_all",
            "delay",
            "refuse",
            "pause",
            "mend",
            "mend",
        ]
    ),
)
_servers = st.tuples(
    st.just("server"),
    st.sampled_from(
        ["flush all", "restart empty", "restart", "forget scripts", "cut clients", "freeze"]
    ),
)
_processes = st.one_of(
    st.tuples(st.just("kill"), _who), st.tuples(st.just("take over"), _who, st.booleans())
)
_waits = st.tuples(st.just("wait"), st.sampled_from([0.01, HEARTBEAT, 1.5 * THRESHOLD]))
_rest = st.one_of(
    st.tuples(st.just("cancel"), _who),
    st.tuples(st.just("flush"), _who),
    st.just(("verify",)),
)
_steps = st.one_of(
    _counts, _counts, _holds, _moves, _reads, _links, _links, _servers, _processes, _waits, _rest
)


def _phrases(who: int) -> st.SearchStrategy[tuple[object, ...]]:
    """Steps that mean more together, and would seldom meet."""
    entered = st.tuples(st.just("do"), st.just(who), st.just("hold"), _held)
    added = st.tuples(st.just("do"), st.just(who), st.just("inc_all"), _key)
    left = st.just(("leave", who))
    return st.one_of(
        st.tuples(entered, st.one_of(_servers, _moves), left),
        st.tuples(entered, _waits, _links.map(lambda step: ("link", who, step[2])), left),
        st.tuples(
            st.just(("link", who, "hang_reply")),
            st.one_of(entered, added),
            st.just(("wait", 0.01)),
            st.just(("cancel", who)),
        ),
    )


STEPS = st.lists(
    st.one_of(*[_steps.map(lambda step: (step,))] * 2, _who.flatmap(_phrases)),
    min_size=10,
    max_size=30,
).map(lambda phrases: [step for phrase in phrases for step in phrase])


@hypothesis.seed(SEED)
@settings(
    max_examples=HISTORIES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@hypothesis.given(STEPS)
def test_random_histories(durable_redis: RedisServer, steps: list[Step]) -> None:
    """Nothing is lost, doubled or revived, and every value ever read may be read."""
    hypothesis.note(f"DISTKIT_SEED={SEED}")
    trio.run(live_through, durable_redis, unique_prefix(), steps)
