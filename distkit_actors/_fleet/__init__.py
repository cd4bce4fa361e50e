"""Looking at a namespace without taking part."""
