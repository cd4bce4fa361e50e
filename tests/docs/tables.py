"""The diagrams and tables of states in ``docs``, made from the tables that the code runs by.

``python -m tests.docs.tables`` says which pages are not up to date, ``--write`` brings them up
to date. A page has a region for each machine of `MACHINES`, between two comments::

    <!-- states of NAME: made by python -m tests.docs.tables -->
    <!-- end of the states of NAME -->

To add a machine, put such a pair of lines into a page, and the machine into `MACHINES`.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from distkit_actors._actor import _life
from distkit_actors._instance import _phases

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Machine:
    """States, and which event leads from which to which."""

    name: str
    page: str
    """The file in ``docs`` that shows it."""
    transitions: Mapping[enum.Enum, Mapping[enum.Enum, enum.Enum]]
    """For each state: what each legal event makes of it. The value of an event says it in words."""
    notes: Mapping[enum.Enum, str] = field(default_factory=dict)
    """For states: what there is to say of them; "nothing" of those that are not here."""
    note: str = ""
    """What the notes say: the head of their column. Without it there is no table of states."""

    def text(self) -> str:
        """Return the diagram and the tables, as Markdown."""
        states = [self._states()] if self.note else []
        return "\n\n".join([self._diagram(), *states, self._events()])

    def everywhere(self) -> dict[enum.Enum, enum.Enum]:
        """Return the events that are legal in every state and lead to the same, with that."""
        first = next(iter(self.transitions.values()))
        return {
            event: target
            for event, target in first.items()
            if all(row.get(event) is target for row in self.transitions.values())
        }

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        """Go through all transitions: state, events, state."""
        everywhere = self.everywhere()
        for state, row in self.transitions.items():
            for target in dict.fromkeys(row.values()):
                events = [e.name for e, to in row.items() if to is target and e not in everywhere]
                if events:
                    yield state.name, ", ".join(events), target.name
        for event, target in everywhere.items():
            yield "(any)", event.name, target.name

    def _diagram(self) -> str:
        rows = list(self._rows())
        first = max(len(state) for state, _, _ in rows)
        second = max(len(events) for _, events, _ in rows)
        lines, last = [], ""
        for state, events, target in rows:
            if state != last and last:
                lines.append("")
            shown = "" if state == last else state
            lines.append(f"{shown:{first}} -- {events + ' ':-<{second + 1}}-> {target}")
            last = state
        return "\n".join(["```text", *lines, "```"])

    def _states(self) -> str:
        rows = [[f"`{state.name}`", self.notes.get(state, "nothing")] for state in self.transitions]
        return _table(["state", self.note], rows)

    def _events(self) -> str:
        used = {event for row in self.transitions.values() for event in row}
        events = [event for event in type(next(iter(used))) if event in used]
        return _table(["event", "what has happened"], [[e.name, str(e.value)] for e in events])


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|".join(["", *(f" {cell} " for cell in line), ""]) for line in lines).replace(
        "| --- ", "|---"
    )


MACHINES: Final = (
    Machine(
        "a session",
        "protocol.md",
        _phases.TRANSITIONS,
        {phase: f"`{request.__name__}`" for phase, request in _phases.REQUESTS.items()},
        "what is sent",
    ),
    Machine("an actor", "architecture.md", _life.TRANSITIONS),
)


def renewed(page: str, machine: Machine) -> str:
    """Return the text of a page, with the region of ``machine`` made anew."""
    begin = f"<!-- states of {machine.name}: made by python -m tests.docs.tables -->\n"
    end = f"<!-- end of the states of {machine.name} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, behind = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{machine.page} has no region for the states of {machine.name}")
    return f"{before}{begin}\n{machine.text()}\n\n{end}{behind}"


def outdated(docs: Path, machines: Iterable[Machine] = MACHINES) -> dict[Path, str]:
    """Return the pages that are not up to date, with what they should say."""
    pages: dict[Path, str] = {}
    for machine in machines:
        path = docs / machine.page
        text = pages.get(path) or path.read_text(encoding="utf-8")
        pages[path] = renewed(text, machine)
    return {p: text for p, text in pages.items() if text != p.read_text(encoding="utf-8")}


def main(arguments: list[str]) -> int:
    """Say which pages are not up to date, or write them."""
    pages = outdated(DOCS)
    for path, text in pages.items():
        if "--write" in arguments:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.name}")
        else:
            print(f"not up to date: {path.name}")
    return 1 if pages and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
