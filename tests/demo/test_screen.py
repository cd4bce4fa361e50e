"""What the story looks like."""

import builtins
import io
import sys

import pytest
import trio
import trio.testing

from distkit_actors import MemoryStore
from distkit_actors._demo import story
from distkit_actors._demo.picture import Picture, Row, State
from distkit_actors._demo.screen import PlainScreen, open_screen
from distkit_actors._demo.table import TableScreen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "40")
    return Terminal()


PICTURE = Picture(
    (
        Row("web-1", "strict", State.LIVE, 3, True, 0.1, 8),
        Row("web-2", "lax", State.LIVE, 5, True, 0.1, 7),
        Row("web-3", "strict", State.CUT_OFF, 4, False, 12.34, 12),
        Row("web-4", "lax", State.CRASHED, 4, True, None, None),
        Row("web-5", "lax", State.REAPED, 0, True, 3.0, None),
        Row("web-6", "strict", State.LEFT, 0, True, None, None),
    ),
    8,
)


async def test_without_a_terminal_it_is_plain_lines() -> None:
    out = io.StringIO()
    with open_screen(out, "header") as screen:
        screen.act("First")
        screen.say("hello")
        screen.show(PICTURE)
        screen.show(PICTURE, keep=True)
    screen.total("web-1", 3, 3)
    screen.total("cumulative", 8, 7, 8)
    screen.end("it is wrong")
    assert out.getvalue() == (
        "header\n"
        "(plain lines, because this is not a terminal)\n"
        "\n"
        "== First\n"
        "   0.0 s  hello\n"
        "          [web-1 3  web-2 5  web-3 (4) cut off  web-4 4 crashed  web-5 0 reaped  "
        "web-6 0 left]  all live see 8\n"
        "\n"
        "  totals           books  counters\n"
        "  web-1                3         3  ok\n"
        "  cumulative           8      7, 8  WRONG\n"
        "\n"
        "The books and the counters do NOT agree: it is wrong.\n"
    )


async def test_without_rich_it_says_how_to_get_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without_rich(name: str, *args: object, **options: object) -> object:
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError("No module named 'rich'", name="rich")
        return real_import(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "distkit_actors._demo.table")
    monkeypatch.setattr(builtins, "__import__", without_rich)
    with open_screen(terminal, "header") as screen:
        pass
    assert isinstance(screen, PlainScreen)
    assert terminal.getvalue() == (
        "header\n"
        "(plain lines, because rich is missing: "
        "pip install 'distkit-actors[demo]' for a live table)\n"
    )


async def test_a_dumb_terminal_gets_plain_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_screen(terminal, "header"), PlainScreen)


async def test_a_terminal_gets_a_table(terminal: Terminal) -> None:
    screen = open_screen(terminal, "header")
    assert isinstance(screen, TableScreen)
    with screen:
        screen.act("First")
        screen.say("hello")
        screen.show(PICTURE)
        shown = terminal.getvalue()
    screen.total("web-1", 3, 3)
    screen.end(None)
    for text in (
        "header",
        "First",
        "hello",
        "web-6",
        "cut off",
        "(4)",
        "12.3 s ago",
        "by the books",
    ):
        assert text in shown
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back
    assert "The books and the counters agree." in terminal.getvalue()


async def test_narration_keeps_the_height_of_the_table(terminal: Terminal) -> None:
    screen = open_screen(terminal, "header")
    assert isinstance(screen, TableScreen)
    screen.show(PICTURE)
    heights = set()
    for number in range(8):
        screen.say(f"line {number}")
        heights.add(len(screen._console.render_lines(screen._render())))
    assert len(heights) == 1


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_the_whole_story_fits(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = open_screen(terminal, "header")
    assert await story.perform(MemoryStore(), screen, instances=12, seconds=5)
    for text in ("sees", "A crash", "its slice is back", "left behind", "agree."):
        assert text in terminal.getvalue()
    # What is cut off would have been drawn with an ellipsis.
    assert "…" not in terminal.getvalue()
