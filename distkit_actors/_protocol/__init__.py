"""What an instance and a store say to each other, as plain values.

The instance's half of the protocol is in ``_instance``, the store's half in ``_namespace``. All
three are pure: nothing in them awaits, reads a clock, draws a random number, logs or talks to a
store. Time comes in as ``now`` (microseconds), effects go out as messages. ``docs/protocol.md``
explains the rules by number (P1 …).
"""
