"""The classes that applications hold: checks of what they are given, and a way to the actor."""
