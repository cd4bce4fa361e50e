"""The pure code by itself: no trio, no clock, no store."""
