import io
import re
import sys

import pytest
from lightning.pytorch.callbacks import RichProgressBar

from mambavision_lab.lit.callbacks.progress import EpochLines, TerminalBar, progress_bar

LINE = r"epoch (\d)/(\d)  train/loss (\S+)  val/loss (\S+)  val/acc1 (\S+)  val/num_images (\d+)  \d+\.\d s"
FORMATS = {"train/loss": ".4f", "val/loss": ".4f", "val/acc1": ".2%", "val/num_images": ".0f"}


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer, history, capsys):
    """Fit the toy network and return the lines that were printed."""

    def run(bar, **options):
        trainer = make_trainer(callbacks=[bar], enable_progress_bar=True, logger=history, **options)
        trainer.fit(make_classifier(), make_loader(), make_loader(7))
        return capsys.readouterr().out.splitlines()

    return run


def test_epoch_lines_show_the_metrics_of_each_epoch(fit, history):
    lines = fit(EpochLines(), max_epochs=3)
    shown = [re.fullmatch(LINE, line).groups() for line in lines]
    expected = [
        (str(epoch + 1), "3", *(f"{history[name][epoch]:{spec}}" for name, spec in FORMATS.items()))
        for epoch in range(3)
    ]
    assert shown == expected
    assert len({line[2:4] for line in expected}) == 3


def test_epoch_lines_leave_out_validation_where_there_was_none(fit):
    lines = fit(EpochLines(), max_epochs=4, check_val_every_n_epoch=2)
    assert ["val/" in line for line in lines] == [False, True, False, True]


def test_epoch_lines_tell_how_far_a_long_epoch_is(fit, monkeypatch):
    monkeypatch.setattr("mambavision_lab.lit.callbacks.progress._INTERVAL_S", 0)
    lines = fit(EpochLines(), max_epochs=1)
    told = [line for line in lines if "batch" in line]
    assert told[0].startswith("epoch 1: batch 1 of ")
    assert told[-1].startswith("validation: batch ")
    assert re.fullmatch(LINE, lines[-1])


def test_disabled_epoch_lines_are_silent(fit):
    bar = EpochLines()
    bar.disable()
    assert fit(bar, max_epochs=1) == []


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, TerminalBar), (False, EpochLines)])
def test_progress_is_a_bar_on_a_terminal_only(is_terminal, kind, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    bar = progress_bar(refresh_rate=3)
    assert type(bar) is kind
    assert getattr(bar, "refresh_rate", 3) == 3


@pytest.mark.parametrize(
    ("columns", "logged", "shown"),
    [
        ("80", {"train/loss_step": 2.3}, {"loss": 2.3}),
        ("80", {"train/loss_step": 2.3, "val/loss": 2.3, "val/acc1": 0.1}, {"acc1": 0.1}),
        ("80", {"mine": 1.0}, {"mine": 1.0}),
        (
            "200",
            {"train/loss_step": 2.3, "val/acc1": 0.1},
            {"train/loss_step": 2.3, "val/acc1": 0.1},
        ),
    ],
)
def test_metrics_fit_beside_the_bar_of_a_narrow_terminal(columns, logged, shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(RichProgressBar, "get_metrics", lambda *_: logged)
    assert TerminalBar().get_metrics(None, None) == shown


def test_bar_counts_epochs_from_one(fit):
    shown = set()

    class Bar(TerminalBar):
        def refresh(self, hard=False):
            shown.update(task.description.rstrip() for task in self.progress.tasks)
            super().refresh(hard)

    fit(Bar(), max_epochs=2)
    assert {text for text in shown if "epoch" in text.lower()} == {"epoch 1/2", "epoch 2/2"}
