"""The reference of the site covers every key of every config."""

import sys
from pathlib import Path

import pytest

from mambavision_lab.files import configs_folder, list_choices


@pytest.fixture
def reference(monkeypatch):
    """The module that writes the reference."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "docs" / "generate")
    import config_reference

    yield config_reference
    sys.modules.pop("config_reference")


def test_every_key_has_a_meaning_and_a_type(reference):
    assert reference.incomplete() == []
    folders = {path.name for path in configs_folder().iterdir() if path.is_dir()}
    assert {*reference.GROUPS, "experiment", "hydra"} == folders


def test_a_key_without_a_meaning_is_named(reference, monkeypatch):
    monkeypatch.setattr(reference, "GROUPS", ["optimizer"])
    monkeypatch.setattr(reference, "SCHEMAS", {})
    monkeypatch.setattr(reference, "read_comments", lambda path: {})
    missing = reference.incomplete()
    assert "optimizer.lr (adamw): no meaning" in missing
    assert "hydra.run.dir (default): no meaning" in missing


def test_a_page_has_every_choice_with_its_default(reference):
    page = reference.group_page("optimizer")
    assert all(f"| `{choice}` |" in page for choice in list_choices("optimizer"))
    assert "| `optimizer.lr` | `5e-3` |" in page or "| `optimizer.lr` | `0.005` |" in page
