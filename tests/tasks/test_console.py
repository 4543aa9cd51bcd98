"""What a task prints."""

from pathlib import Path

from mambavision_lab.tasks.console import print_panel, print_results


def test_brackets_in_names_are_printed(capsys):
    print_panel("train my[x]", {"folder": "logs/[y]/b"})
    print_results("run[z]", {"val/loss": 0.5}, Path("logs/[bold]/b"))
    out = capsys.readouterr().out
    assert all(
        name in out for name in ("my[x]", "logs/[y]/b", "run[z]", "run folder: logs/[bold]/b")
    )
