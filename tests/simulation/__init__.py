"""A fleet and one server, simulated: who waits how long when everybody comes at once."""
