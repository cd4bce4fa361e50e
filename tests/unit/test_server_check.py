"""What a server tells of itself before it is used."""

from __future__ import annotations

from distkit_actors._stores._redis._connection import Answer
from distkit_actors._stores._redis._server_check import check_server


class Server:
    """Tells of itself; some of it is no text."""

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        assert words[0] == b"INFO"
        assert patience is not None
        return b"redis_version:7.0.0\r\nexecutable:/\xff/redis-server\r\nredis_mode:standalone\r\n"


async def test_names_of_files_may_be_any_bytes() -> None:
    assert await check_server(Server(), 2.0)
