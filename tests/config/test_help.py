"""The help of a command fits a terminal, and names every choice."""

import pytest

from mambavision_lab.config.help import help_text
from mambavision_lab.config.schema import SCHEMAS
from mambavision_lab.files import list_choices


@pytest.mark.parametrize("task", SCHEMAS)
def test_help_fits_80_columns_but_for_its_examples(task, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text, _, _ = help_text(task).partition("\nExamples:")
    assert max(map(len, text.splitlines())) <= 80


def test_help_names_every_experiment_with_its_network_and_data():
    text = help_text("train")
    assert all(f" {choice} " in text for choice in list_choices("experiment"))
    assert "cifar10_nano                 mambavision_nano on cifar10: Hardware:" in text
