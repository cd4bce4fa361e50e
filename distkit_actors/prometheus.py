"""Counters in Prometheus; needs ``pip install 'distkit-actors[prometheus]'``.

::

    from prometheus_client import REGISTRY, start_http_server

    from distkit_actors.prometheus import CounterCollector

    collector = CounterCollector(counter)
    REGISTRY.register(collector)
    start_http_server(9100)
"""

from ._monitoring._prometheus import CounterCollector
from ._public import publish as _publish

__all__ = ["CounterCollector"]

_publish(globals())
