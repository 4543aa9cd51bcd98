"""A bar on a terminal, nothing in a log file, and the items in both."""

import io
import sys

import pytest

from mambavision_lab.data.progress import track


@pytest.mark.parametrize(("is_terminal", "total"), [(True, 3), (True, None), (False, 3)])
def test_track_yields_what_it_is_given(is_terminal, total, monkeypatch):
    stderr = io.StringIO()
    stderr.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    assert [*track(iter("abc"), "download", total)] == ["a", "b", "c"]
    assert ("download" in stderr.getvalue()) == is_terminal
