"""Counters in OpenTelemetry; needs ``pip install 'distkit-actors[opentelemetry]'``.

::

    from distkit_actors.opentelemetry import CounterInstruments

    instruments = CounterInstruments(counter)
"""

from ._monitoring._opentelemetry import CounterInstruments
from ._public import publish as _publish

__all__ = ["CounterInstruments"]

_publish(globals())
