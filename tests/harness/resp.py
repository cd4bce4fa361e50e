"""Cutting a Redis byte stream (RESP2 or RESP3) into whole messages."""

from dataclasses import dataclass

_STRINGS = b"$=!"
# Type byte -> values that follow per unit of the announced length.
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
_CRLF = b"\r\n"


@dataclass(frozen=True)
class Request:
    """One command as a client sent it."""

    frame: bytes
    args: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """The command's name in upper case."""
        return self.args[0].decode("latin-1").upper() if self.args else ""


class FrameSplitter:
    """Collects bytes of one direction of a connection and yields whole messages.

    Lines that begin with no RESP type byte are inline commands, and messages
    of their own.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        # Where the next value of the message under work begins, and how many
        # values it still lacks. Kept between calls so that a message that
        # comes in many pieces is scanned once.
        self._position = 0
        self._missing = 1

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Add received bytes and return the messages they completed."""
        self._buffer += data
        frames = []
        while self._scan():
            frames.append(bytes(self._buffer[: self._position]))
            del self._buffer[: self._position]
            self._position = 0
            self._missing = 1
        return frames

    def _scan(self) -> bool:
        """Advance over complete values; return whether the message is whole."""
        while self._missing:
            line_end = self._buffer.find(_CRLF, self._position)
            if line_end < 0:
                return False
            kind = bytes(self._buffer[self._position : self._position + 1])
            line = bytes(self._buffer[self._position + 1 : line_end])
            end = line_end + len(_CRLF)
            children = 0
            if kind and kind in _STRINGS and int(line) >= 0:
                end += int(line) + len(_CRLF)
                if len(self._buffer) < end:
                    return False
            elif kind in _AGGREGATES:
                children = max(0, int(line)) * _AGGREGATES[kind]
                # Attributes are a foreword: the value itself comes after them.
                children += kind == b"|"
            self._position = end
            self._missing += children - 1
        return True


def parse_request(frame: bytes) -> Request:
    """Return the request that a whole message from a client is.

    Raises:
        ValueError: it is neither an array of bulk strings nor an inline
            command.
    """
    if not frame.startswith(b"*"):
        return Request(frame, tuple(frame.split()))
    args = []
    position = frame.index(_CRLF) + len(_CRLF)
    while position < len(frame):
        line_end = frame.index(_CRLF, position)
        if frame[position : position + 1] != b"$":
            raise ValueError(f"not an array of bulk strings: {frame[:80]!r}")
        start = line_end + len(_CRLF)
        end = start + int(frame[position + 1 : line_end])
        args.append(frame[start:end])
        position = end + len(_CRLF)
    return Request(frame, tuple(args))


def is_push(frame: bytes) -> bool:
    """Return whether a message from the server answers no request (RESP3)."""
    return frame.startswith(b">")
