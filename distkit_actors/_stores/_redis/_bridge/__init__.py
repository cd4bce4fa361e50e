"""Connections of a pool of redis-py's, on an asyncio loop that runs on trio.

All of asyncio is hidden in here: the caller's task never sees the loop. It runs in a task
of its own, shielded from the caller's cancellations. All connections of a pool share it, as a pool
belongs to one loop; it ends after the last of them.

======================  ======================================================================
`_connection`           what trio's side has: a connection like any other
`_loop`                 the asyncio loop, and its task
`_loan`                 a connection of a pool while it is ours, all of it in the loop
`_pool`                 what is asked of a pool before anything is connected
`_error_replies`        what the server has said, from what redis-py makes of it
======================  ======================================================================
"""

from ._connection import open_bridge as open_bridge
from ._pool import checked_pool as checked_pool
from ._pool import place_of as place_of
