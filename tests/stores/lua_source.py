"""Reads the Lua of the scripts: its words, its names and where its statements begin.

It knows the Lua that is written here, not all of Lua: strings in single quotes, no long strings, no
labels, no methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<comment>--.*)
      | (?P<string>'(?:[^'\\\n]|\\.)*')
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<operator>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^\#<>=(){}\[\];:,.])
      | (?P<space>\s+)""",
    re.VERBOSE,
)

#: What a statement begins with, beside names.
_BEGINS = {"break", "do", "for", "function", "if", "local", "repeat", "return", "while"}
#: Words that stand in an expression.
_IN_EXPRESSIONS = {"and", "false", "in", "nil", "not", "or", "true"}
_KEYWORDS = _BEGINS | _IN_EXPRESSIONS | {"else", "elseif", "end", "then", "until"}
#: Words behind which an expression goes on; with signs it does so behind all but these.
_GOES_ON = {"and", "in", "not", "or", "return"}
_ENDS = {")", "}", "]", ";", "..."}


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    line: int


def tokens(source: str) -> list[Token]:
    """Everything in a source but its comments."""
    found, position, line = [], 0, 1
    while position < len(source):
        match = _TOKEN.match(source, position)
        assert match is not None, f"line {line}: {source[position : position + 20]!r}"
        kind, text = match.lastgroup or "", match[0]
        if kind == "name" and text in _KEYWORDS:
            kind = "keyword"
        if kind not in ("space", "comment"):
            found.append(Token(kind, text, position, line))
        line += text.count("\n")
        position = match.end()
    return found


def statements(source: str) -> Iterator[Token]:
    """The first token of each line with which a statement begins."""
    depth, line, goes_on = 0, 0, False
    for token in tokens(source):
        begins = token.kind == "name" or token.text in _BEGINS
        if token.line != line and not depth and begins and not goes_on:
            yield token
        goes_on = token.text in _GOES_ON or (token.kind == "operator" and token.text not in _ENDS)
        line = token.line
        depth += (token.text in "({[") - (token.text in ")}]")


@dataclass
class Names:
    """Which names a source makes, and which it takes from elsewhere."""

    made: list[str] = field(default_factory=list)
    """Its local names that stand in no block, in order."""
    foreign: set[str] = field(default_factory=set)
    """Names that it uses, and has not made before."""
    hiding: list[str] = field(default_factory=list)
    """Local names that hide an older one, as "name, line n"."""
    assigned: list[str] = field(default_factory=list)
    """Names that it assigns to, but for where it makes them."""


def names(source: str) -> Names:
    """Look at each name of a source."""
    return _Reader(tokens(source)).read()


class _Reader:
    def __init__(self, found: list[Token]) -> None:
        self.tokens = [*found, Token("end", "", 0, 0)]
        self.at = 0
        self.scopes: list[set[str]] = [set()]
        self.brackets: list[str] = []
        self.open_heads = 0  # of loops, whose `do` opens no block
        self.names = Names()

    def read(self) -> Names:
        while self.tokens[self.at].kind != "end":
            self._token(self.tokens[self.at])
        return self.names

    def _token(self, token: Token) -> None:
        before = self.tokens[self.at - 1].text if self.at else ""
        self.at += 1
        match token.text:
            case "local":
                self._local()
            case "function":
                self.scopes.append(set())
                self._make_until(")")
            case "for":
                self.scopes.append(set())
                self._make_until("in", "=")
                self.open_heads += 1
            case "while":
                self.scopes.append(set())
                self.open_heads += 1
            case "do" if self.open_heads:
                self.open_heads -= 1
            case "do" | "then" | "repeat":
                self.scopes.append(set())
            case "else":
                self.scopes[-1] = set()
            case "end" | "elseif" | "until":
                self.scopes.pop()
            case "(" | "{" | "[":
                self.brackets.append(token.text)
            case ")" | "}" | "]":
                self.brackets.pop()
            case _ if token.kind == "name" and before != ".":
                self._use(token)

    def _local(self) -> None:
        if self.tokens[self.at].text == "function":
            self._make(self.tokens[self.at + 1])
            self.at += 2
            self.scopes.append(set())
            self._make_until(")")
            return
        while True:
            self._make(self.tokens[self.at])
            self.at += 1
            if self.tokens[self.at].text != ",":
                return
            self.at += 1

    def _make_until(self, *ends: str) -> None:
        while (token := self.tokens[self.at]).text not in ends:
            if token.kind == "name":
                self._make(token)
            self.at += 1
        self.at += 1

    def _make(self, token: Token) -> None:
        if token.text != "_" and any(token.text in scope for scope in self.scopes):
            self.names.hiding.append(f"{token.text}, line {token.line}")
        self.scopes[-1].add(token.text)
        if len(self.scopes) == 1:
            self.names.made.append(token.text)

    def _use(self, token: Token) -> None:
        after = self.tokens[self.at].text
        if self.brackets[-1:] == ["{"] and after == "=":
            return  # a field of a table
        if not any(token.text in scope for scope in self.scopes):
            self.names.foreign.add(token.text)
        if self._is_assigned():
            self.names.assigned.append(token.text)

    def _is_assigned(self) -> bool:
        """Whether the name just read stands alone on the left of an assignment."""
        if self.brackets:
            return False
        if self.tokens[self.at - 2].text not in (",", "then", "do", "else", "end", ")") and (
            self.tokens[self.at - 2].line == self.tokens[self.at - 1].line
        ):
            return False
        at = self.at
        while self.tokens[at].text == ",":
            at += 2
        return self.tokens[at].text == "="
