"""How busy the machine is."""

import os

#: With more patience than this, the tests would take too long.
_MOST = 5.0


def pressure() -> float:
    """Return how many times as long as on an idle machine things may take just now.

    It is for periods that should be short and cannot be waited for, as thresholds: whoever is
    not served for so long is dead, and rightly so.
    """
    load, *_ = os.getloadavg()
    return min(max(1.0, load / (os.cpu_count() or 1)), _MOST)
