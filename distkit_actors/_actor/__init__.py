"""What runs in a counter's nursery: the mailbox, the dispatch of batches, the conversation.

`_actor` has the tasks; what they decide without waiting is in the other modules.
``docs/architecture.md`` draws how they work together.
"""
