"""Fixtures shared with the tests that compose configs."""

from composing import make_module  # noqa: F401
