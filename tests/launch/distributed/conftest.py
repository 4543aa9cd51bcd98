"""Fixtures of the tests that imitate launchers."""

import os
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def launcher_variables() -> Iterator[Callable[[dict[str, str]], None]]:
    """Set variables; those of launchers are unset before, and all is as it was after the test."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")):
            del os.environ[name]
    yield os.environ.update
    os.environ.clear()
    os.environ.update(before)
