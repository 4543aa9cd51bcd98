"""Fixtures shared with the other tests that compose configs."""

from composing import _prepared, command, compose, make_module, start  # noqa: F401
