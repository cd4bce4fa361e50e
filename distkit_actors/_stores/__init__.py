"""The stores: one contract, one implementation in memory, one over Redis."""
