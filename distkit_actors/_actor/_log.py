"""What a counter, or a `Fleet`, logs: one line for each change of state, each with its data.

Nothing else in the package logs, but for what asyncio says under a store's connection. Each line
stands in the table of ``docs/observability.md``, with its level and its data, and a test compares
the two.

The end of something has the level of its beginning. Otherwise a reader of warnings would see every
outage begin, and none end.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import trio

from .._errors import StoreError
from .._instance._session_view import Loss
from .._stores._contract import Store
from ._groups import sole

logger: Final = logging.getLogger("distkit_actors")

#: Who logs.
LoggerKind: TypeAlias = Literal["strict", "lax", "fleet"]

#: How our own stores begin a refusal.
_REFUSES: Final = "the store refuses: "
#: Keys that one line names.
_KEYS_NAMED: Final = 10

_LOSSES: Final[dict[Loss, str]] = {
    "reaped": "its slices had been taken away, as it was silent for longer than its threshold, or "
    "somebody has called `forget`",
    "wiped": "the store had lost everything",
    "rolled_back": "the store had lost what was written last",
}


class Log:
    """Says what happens to one counter. The attributes that a line has beside are in ``extra``."""

    def __init__(
        self, prefix: str, store: Store, kind: LoggerKind, title: str | None = None
    ) -> None:
        self.instance = ""  # as soon as it has a name
        self.label = ""  # what people call it
        self._prefix = prefix
        self._title = title or prefix  # which tells parts of a namespace apart
        self._store = store
        self._kind: LoggerKind = kind
        self._begun = 0.0
        self._withheld_since: float | None = None  # own slices that do not fit

    def _say(self, level: int, event: str, text: str, *args: object, **data: object) -> None:
        if logger.isEnabledFor(level):
            names = ", ".join(filter(None, (self._kind, self.label, self.instance)))
            who = f"{self._title} ({names})"
            template = "%s: " + text
            try:
                extra = {
                    "event": event,
                    "prefix": self._prefix,
                    "instance": self.instance,
                    "label": self.label,
                    "store": repr(self._store),
                    "kind": self._kind,
                    **data,
                }
                logger.log(level, template, who, *args, extra=extra, stacklevel=3)
            except Exception:  # noqa: BLE001 - a handler's, or a filter's; no count depends on it
                if logging.raiseExceptions and sys.stderr:
                    traceback.print_exc()  # as handlers do with their own errors

    # ---------------------------------------------------------------------- life

    def begun(self, instance: str) -> None:
        """Note who it is, and when it began; nothing is said yet."""
        self.instance, self._begun = instance, trio.current_time()

    @property
    def _age(self) -> float:
        return trio.current_time() - self._begun

    def detached(self) -> None:
        """It starts without waiting for the store."""
        text = "started, counts in memory until the store has registered it"
        self._say(logging.INFO, "detached", text)

    def registered(self, slices: int) -> None:
        """The store has taken it in."""
        text, age = "registered after %.3f s%s", self._age
        inherited = f", with slices of its predecessor: {slices}" if slices else ""
        self._say(logging.INFO, "registered", text, age, inherited, duration=age, slices=slices)

    def superseded(self, error: Exception) -> None:
        """Somebody else has the id."""
        age = self._age
        text = "superseded after %.1f s: %s"
        self._say(logging.ERROR, "superseded", text, age, error, duration=age, error=str(error))

    def stopped(self, *, left: bool) -> None:
        """It has ended, and nothing is left undone."""
        text, age = "stopped after %.1f s: %s", self._age
        how = (
            "it has taken its slices away"
            if left
            else "its slices, if any, count until its threshold has passed"
        )
        self._say(logging.INFO, "stopped", text, age, how, duration=age, left=left)

    def not_left(self, refusal: StoreError | None) -> None:
        """It has ended, and could not take its slices away, though it should."""
        text = "stopped after %.1f s, and could not leave: its slices, if any, count until its "
        text += "threshold has passed%s"
        age, why = self._age, "" if refusal is None else f" ({refusal})"
        self._say(
            logging.WARNING, "not_left", text, age, why, duration=age, error=str(refusal or "")
        )

    def unfinished(self, error: Exception, undone: int) -> None:
        """It has ended, and something could not be sent."""
        age = self._age
        text = "%s (it ran for %.1f s)"
        self._say(
            logging.ERROR,
            "unfinished",
            text,
            error,
            age,
            duration=age,
            undone=undone,
            error=str(error),
        )

    def crashed(self, error: BaseException, undone: int) -> None:
        """It has ended by an error, whose words may be secret and are not repeated."""
        age, kind = self._age, type(sole(error)).__name__
        text = "crashed after %.1f s with %d counts or operations undone: %s, which `run` raises"
        self._say(
            logging.ERROR,
            "crashed",
            text,
            age,
            undone,
            kind,
            duration=age,
            undone=undone,
            error=kind,
        )

    # --------------------------------------------------------------------- store

    def reconnecting(self, error: StoreError) -> None:
        """A connection has ended, which is no outage yet."""
        text = "the connection has ended, making another: %s"
        self._say(logging.DEBUG, "reconnecting", text, error, error=str(error))

    def away(self, error: StoreError) -> None:
        """The store cannot be reached, or does not answer."""
        text = "the store is away, trying again: %s"
        self._say(logging.WARNING, "away", text, error, error=str(error))

    def back(self, duration: float, keys: int, operations: int) -> None:
        """The store answers again after it was away."""
        text = "the store is back after %.1f s; still to send: keys with counts %d, operations %d"
        self._say(
            logging.WARNING,
            "back",
            text,
            duration,
            keys,
            operations,
            duration=duration,
            pending_keys=keys,
            waiting_operations=operations,
        )

    def refused(self, error: StoreError) -> None:
        """The store refuses."""
        text, reason = "the store refuses: %s", str(error).removeprefix(_REFUSES)
        self._say(logging.ERROR, "refused", text, reason, error=reason)

    def accepted(self, duration: float, keys: int, operations: int) -> None:
        """The store accepts again what it had refused."""
        text = "the store accepts again after %.1f s; still to send: keys with counts %d, "
        text += "operations %d"
        self._say(
            logging.ERROR,
            "accepted",
            text,
            duration,
            keys,
            operations,
            duration=duration,
            pending_keys=keys,
            waiting_operations=operations,
        )

    def misconfigured(self, warning: str) -> None:
        """Something is wrong with how the store is set up."""
        self._say(logging.ERROR, "misconfigured", "%s", warning, error=warning)

    def configured(self, duration: float) -> None:
        """The set-up is right again."""
        text = "the store is set up as it should be again, after %.1f s"
        self._say(logging.ERROR, "configured", text, duration, duration=duration)

    # -------------------------------------------------------------------- slices

    def returned(self, loss: Loss, duration: float, slices: int, withheld: int) -> None:
        """The store did not know it any more, and has been told everything again."""
        text = "the store did not know this instance any more: %s; after %.3f s it has all slices "
        text += "again: %d, and %d more that do not fit"
        self._say(
            logging.WARNING,
            "returned",
            text,
            _LOSSES[loss],
            duration,
            slices,
            withheld,
            cause=loss,
            duration=duration,
            slices=slices,
            withheld_slices=withheld,
        )

    def note_withheld(self, withheld: int, now: float) -> None:
        """Say it if own slices do not fit any more, or all do again. Asked now and then."""
        if withheld and self._withheld_since is None:
            self._withheld_since = now
            self.withheld(withheld)
        elif not withheld and self._withheld_since is not None:
            self.fitted(now - self._withheld_since)
            self._withheld_since = None

    def withheld(self, slices: int) -> None:
        """Own slices do not fit, so that they count nowhere."""
        text = "slices of this instance that count nowhere, as the sum would leave 64 bits: %d"
        self._say(logging.WARNING, "withheld", text, slices, withheld_slices=slices)

    def fitted(self, duration: float) -> None:
        """They all count again, or are void."""
        text = "all slices of this instance count again, after %.1f s"
        self._say(logging.WARNING, "fitted", text, duration, duration=duration)

    def counts_refused(self, keys: Sequence[str]) -> None:
        """The store had to refuse lax counts."""
        named = list(keys[:_KEYS_NAMED])
        text = "counts of %d keys were refused by the store and are lost: %s"
        self._say(
            logging.ERROR,
            "counts_refused",
            text,
            len(keys),
            ", ".join(named),
            refused_keys=len(keys),
            keys=named,
        )

    # ------------------------------------------------------------------- watches

    def not_pushed(self, error: StoreError) -> None:
        """The store does not push changes."""
        text = "the store does not push changes, so they are read again and again: %s"
        self._say(logging.WARNING, "not_pushed", text, error, error=str(error))

    def pushed(self, duration: float) -> None:
        """It pushes again."""
        text = "the store pushes changes again, after %.1f s"
        self._say(logging.WARNING, "pushed", text, duration, duration=duration)
