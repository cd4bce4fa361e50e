"""An instance's half of the protocol: what it says to the store, and what it keeps until then."""
