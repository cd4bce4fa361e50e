"""What lies between one worker of a soak and the servers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tests.harness.proxy import FaultProxy, is_script
from tests.harness.resp import Request


class Network(ABC):
    """The way of one worker to all servers.

    Attributes:
        url: what the worker connects to.
    """

    url: str

    @property
    @abstractmethod
    def armed(self) -> bool:
        """Whether something is still to go wrong."""

    @abstractmethod
    def strike(self, fault: str, times: int = 1, seconds: float | None = None) -> None:
        """Have a fault of `FaultBoard` strike the next requests of the worker."""

    @abstractmethod
    def disarm(self) -> None:
        """Let nothing more go wrong."""

    @abstractmethod
    def cut(self) -> None:
        """Cut the worker's connections, or the next one that it uses."""

    @abstractmethod
    def refuse(self) -> None:
        """Let nothing through, until `mend`; connections end."""

    @abstractmethod
    def stand(self) -> None:
        """Let no answer through, until `mend`; connections stay open."""

    @abstractmethod
    def mend(self) -> None:
        """Let all through again."""


class OwnNetwork(Network):
    """A proxy that only this worker uses."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self.url = proxy.url

    @property
    def armed(self) -> bool:
        """See `Network.armed`."""
        return bool(self._proxy.armed)

    def strike(self, fault: str, times: int = 1, seconds: float | None = None) -> None:
        """See `Network.strike`."""
        _arm(self._proxy, fault, seconds, times=times)

    def disarm(self) -> None:
        """See `Network.disarm`."""
        self._proxy.disarm()

    def cut(self) -> None:
        """See `Network.cut`."""
        self._proxy.cut_all()

    def refuse(self) -> None:
        """See `Network.refuse`."""
        self._proxy.refuse()

    def stand(self) -> None:
        """See `Network.stand`."""
        self._proxy.pause()

    def mend(self) -> None:
        """See `Network.mend`."""
        self._proxy.resume()
        self._proxy.accept()


class SharedNetwork(Network):
    """The proxies of all servers, which tell each worker by the instance that its scripts name.

    Servers have one address for all, so that no worker can have a proxy of its own.
    """

    def __init__(self, proxies: Sequence[FaultProxy], url: str, instance: str) -> None:
        self._proxies = proxies
        self._instance = instance.encode()
        self._strikes: list[_Strike] = []
        self.url = url

    @property
    def armed(self) -> bool:
        """See `Network.armed`."""
        return any(strike.left > 0 for strike in self._strikes)

    def strike(self, fault: str, times: int = 1, seconds: float | None = None) -> None:
        """See `Network.strike`. Whichever server they go to."""
        for spent in [strike for strike in self._strikes if strike.left <= 0]:
            self._forget(spent)
        strike = _Strike(self._instance, times)
        self._strikes.append(strike)
        for proxy in self._proxies:
            _arm(proxy, fault, seconds, times=None, when=strike)

    def disarm(self) -> None:
        """See `Network.disarm`."""
        for strike in list(self._strikes):
            self._forget(strike)

    def cut(self) -> None:
        """See `Network.cut`."""
        self.strike("drop_request")

    def refuse(self) -> None:
        """See `Network.refuse`."""
        self.strike("drop_request", 1_000_000)

    def stand(self) -> None:
        """See `Network.stand`. The server goes on to hear of the worker."""
        self.strike("hang_reply", 1_000_000)

    def mend(self) -> None:
        """See `Network.mend`."""
        self.disarm()

    def _forget(self, strike: "_Strike") -> None:
        self._strikes.remove(strike)
        for proxy in self._proxies:
            proxy.disarm(strike)


class _Strike:
    """Matches a number of requests of one instance, at whichever proxy."""

    def __init__(self, instance: bytes, times: int) -> None:
        self._instance = instance
        self.left = times

    def __call__(self, request: Request) -> bool:
        if self.left <= 0 or not is_script(request) or self._instance not in request.frame:
            return False
        self.left -= 1
        return True


def _arm(proxy: FaultProxy, fault: str, seconds: float | None, **how: Any) -> None:
    arguments = () if seconds is None else (seconds,)
    getattr(proxy, fault)(*arguments, **how)
