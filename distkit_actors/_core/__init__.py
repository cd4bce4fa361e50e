"""The rules of the counters as plain values and transitions.

Nothing in here awaits, reads a clock, draws a random number, logs or talks to a store:
time comes in as ``now`` (microseconds), effects go out as messages. The store's half is
`_namespace`, the instance's half is `_session`; `_messages` is what they say to each
other. ``docs/protocol.md`` explains the rules by number (P1 …).
"""
