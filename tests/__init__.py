"""Tests of distkit_actors."""
