"""What an error line of a server, or of something in front of it, says about the request."""

import pytest

from distkit_actors._errors import StoreUnavailableError
from distkit_actors._stores._contract import NotPermittedError, StoreAwayError
from distkit_actors._stores._redis._connection import ErrorReplyError
from distkit_actors._stores._redis._error_lines import OWN_CODES
from distkit_actors._stores._redis._reply_errors import ends_connection, to_store_error

SHA = "8a0fb08db314c4790d614aa9142ad772cd1fccdc"
OLD = f"ERR Error running script (call to f_{SHA}): @user_script:1: "
NEW = f" script: {SHA}, on @user_script:1."

#: Sent before anything is executed, or by a script that has not come to its end. As Redis 6.2, 7.0
#: and 7.4, and Valkey write them.
REFUSED = {
    "NOAUTH Authentication required.": "NOAUTH",
    "ERR Protocol error: unauthenticated multibulk length": "NOAUTH",
    "WRONGPASS invalid username-password pair or user is disabled.": "WRONGPASS",
    "ERR invalid password": "WRONGPASS",
    "NOPERM this user has no permissions to run the 'evalsha' command": "NOPERM",
    f"{OLD}@user_script: 1: The user executing the script can't run this command": "NOPERM",
    f"ERR The user executing the script can't access at least one of the keys{NEW}": "NOPERM",
    f"ERR ACL failure in script: User default has no permissions to run the 'hset'{NEW}": "NOPERM",
    f"ERR ERR ACL failure in script: No permissions to access a key{NEW}": "NOPERM",
    "OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    f"{OLD}@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    f"ERR OOM command not allowed when used memory > 'maxmemory'.{NEW}": "OOM",
    f"MISCONF Errors writing to the AOF file: No space left on device{NEW}": "MISCONF",
    f"{OLD}WRONGTYPE Operation against a key holding the wrong kind of value": "WRONGTYPE",
    f"WRONGTYPE Operation against a key holding the wrong kind of value{NEW}": "WRONGTYPE",
    "MOVED 3999 127.0.0.1:6381": "MOVED",
    "ASK 3999 127.0.0.1:6381": "ASK",
    "CROSSSLOT Keys in request don't hash to the same slot": "CROSSSLOT",
    "NOPROTO unsupported protocol version": "NOPROTO",
    "DENIED Redis is running in protected mode because protected mode is enabled": "DENIED",
    "ERR unknown command `EVALSHA`, with args beginning with: `x`, ": "no such command",
    "ERR unknown command 'NOSUCH', with args beginning with: 'x' ": "no such command",
    "ERR unknown subcommand 'LOAD'. Try SCRIPT HELP.": "no such command",
    "unsupported command 'SCRIPT'": "no such command",
    "ERR command 'SCRIPT' not support for normal user": "no such command",
    "ERR DB index is out of range": "no such database",
    "ERR AUTH <password> called without any password configured for": "no password",
    "ERR Client sent AUTH, but no password is set": "no password",
    f"{OLD}user_script:1: attempt to perform arithmetic on a nil value": "failed script",
    f"ERR Unknown command called from script{NEW}": "failed script",
}
AWAY = {
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL.": "BUSY",
    "CLUSTERDOWN Hash slot not served": "CLUSTERDOWN",
    "LOADING Redis is loading the dataset in memory": "LOADING",
    "MASTERDOWN Link with MASTER is down": "MASTERDOWN",
    f"{OLD}@user_script: 1: -NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    f"NOREPLICAS Not enough good replicas to write.{NEW}": "NOREPLICAS",
    "NOSCRIPT No matching script. Please use EVAL.": "NOSCRIPT",
    f"{OLD}@user_script: 1: -READONLY You can't write against a read only replica.": "READONLY",
    f"ERR READONLY You can't write against a read only replica.{NEW}": "READONLY",
    f"{OLD}@user_script: 1: Lua script attempted to execute a write command while the cluster "
    "is down and readonly": "CLUSTERDOWN",
    "ERR Script attempted to execute a write command while the cluster is down and readonly"
    f"{NEW}": "CLUSTERDOWN",
    f"ERR Script attempted to execute a command while the cluster is down{NEW}": "CLUSTERDOWN",
    "TRYAGAIN Multiple keys request during rehashing of slot": "TRYAGAIN",
    "ERR max number of clients reached": "no more clients",
    "ERR max number of clients + cluster connections reached": "no more clients",
}
UNKNOWN = (
    "upstream failure",
    "ERR Connection timed out",
    "ERR upstream: OOM command not allowed",
    "upstream failure: LOADING Redis is loading",
    "ERR no healthy upstream, command was READONLY",
    "ERR backend said: unknown command",
    "BUSYKEY Target key name already exists.",
    "EXECABORT Transaction discarded because of previous errors.",
    "WHATEVER this may be",
    "oom command not allowed",
    "ERR",
    "",
)


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_known_to_be_refused_raises_what_to_do(line: str) -> None:
    reply = ErrorReplyError.read(line)
    assert reply.code == REFUSED[line]
    error = to_store_error(reply)
    assert not isinstance(error, StoreUnavailableError)
    assert str(error).startswith("the store refuses: ")
    assert str(error).endswith(f"{line})")


@pytest.mark.parametrize("line", AWAY)
def test_what_is_known_to_come_from_one_who_cannot_serve_now_is_away(line: str) -> None:
    reply = ErrorReplyError.read(line)
    assert reply.code == AWAY[line]
    error = to_store_error(reply)
    assert isinstance(error, StoreAwayError)
    assert str(error).startswith("the store cannot serve now")
    assert str(error).endswith(f"{line})")


@pytest.mark.parametrize("line", UNKNOWN)
def test_anything_else_leaves_the_outcome_open_and_ends_the_connection(line: str) -> None:
    reply = ErrorReplyError.read(line)
    error = to_store_error(reply)
    assert isinstance(error, StoreUnavailableError)
    assert not isinstance(error, StoreAwayError)
    assert str(error).endswith(f": {line}")
    assert ends_connection(reply, 1)


def test_one_who_has_the_wrong_role_is_left_at_once_and_one_who_is_busy_after_a_while() -> None:
    for line in (*REFUSED, *AWAY):
        reply = ErrorReplyError.read(line)
        ends = [ends_connection(reply, number) for number in (1, 2, 3)]
        if reply.code in ("BUSY", "LOADING", "NOSCRIPT", "TRYAGAIN"):
            assert ends == [False, False, True]
        else:
            assert len(set(ends)) == 1
            assert ends[0] is (
                reply.code
                in {
                    *("ASK", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH"),
                    *("NOREPLICAS", "READONLY", "WRONGPASS", "no more clients"),
                }
            )


@pytest.mark.parametrize("line", [*REFUSED, *AWAY])
def test_a_code_of_the_server_is_named_once_and_one_of_our_own_is_not(line: str) -> None:
    reply = ErrorReplyError.read(line)
    assert reply.code is not None
    error = str(to_store_error(reply))
    if reply.code in OWN_CODES:
        assert error.endswith(f" ({line})")
    else:
        assert error.count(reply.code) == 1


def test_a_code_is_named_where_the_words_of_the_server_are_withheld() -> None:
    reply = ErrorReplyError.read("WRONGPASS what is s3cret?")
    reply.withhold(("s3cret",))
    assert "(WRONGPASS: its words are not repeated" in str(to_store_error(reply))


def test_advice_may_be_special() -> None:
    reply = ErrorReplyError.read("NOPERM no channel")
    error = to_store_error(reply, {"NOPERM": "grant it a channel"})
    assert type(error) is NotPermittedError
    assert "grant it a channel" in str(error)
