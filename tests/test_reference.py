"""The reference of the site covers every key of every config."""

import sys
from pathlib import Path

import pytest

from mambavision_lab.files import configs_folder, list_choices


@pytest.fixture
def reference(monkeypatch):
    """The modules that collect the keys and write the pages."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "docs" / "generate")
    import config_keys
    import config_pages

    yield config_keys, config_pages
    for name in ("config_keys", "config_pages"):
        sys.modules.pop(name)


def test_every_key_has_a_meaning_and_a_type(reference):
    keys, _ = reference
    assert keys.incomplete() == []
    folders = {path.name for path in configs_folder().iterdir() if path.is_dir()}
    assert {*keys.GROUPS, "experiment", "hydra"} == folders


def test_a_key_without_a_meaning_is_named(reference, monkeypatch):
    keys, _ = reference
    monkeypatch.setattr(keys, "GROUPS", ["optimizer"])
    monkeypatch.setattr(keys, "SCHEMAS", {})
    monkeypatch.setattr(keys, "read_comments", lambda path: {})
    missing = keys.incomplete()
    assert "optimizer.lr (adamw): no meaning" in missing
    assert "hydra.run.dir (default): no meaning" in missing


def test_a_page_has_every_choice_with_its_default(reference):
    _, pages = reference
    page = pages.group_page("optimizer")
    assert all(f"| `{choice}` |" in page for choice in list_choices("optimizer"))
    assert "| `optimizer.lr`<br>`float` | `0.005` | Learning rate |" in page
