"""Fixtures shared with the other tests that compose configs."""

from composing import _registered, command, compose, make_module, start  # noqa: F401
