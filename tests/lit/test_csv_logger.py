"""metrics.csv is whole at each moment, and continues when its run resumes."""

import pytest

from mambavision_lab.lit import csv_logger
from mambavision_lab.lit.csv_logger import ResumableCSVLogger


@pytest.fixture
def make_logger(tmp_path):
    return lambda: ResumableCSVLogger(tmp_path, name="", version="")


@pytest.fixture
def interrupted(make_logger, tmp_path):
    """The file of a run with four steps."""
    logger = make_logger()
    for step in range(4):
        logger.log_metrics({"train/loss": 4.0 - step}, step)
        logger.save()
    return tmp_path / "metrics.csv"


def rows_of(path):
    return [row.split(",") for row in path.read_text().splitlines()]


def test_rows_before_the_checkpoint_stay_and_the_others_are_logged_anew(make_logger, interrupted):
    resumed = make_logger()
    resumed.restore(2, has_open_epoch=False)
    assert rows_of(interrupted) == [["step", "train/loss"], ["0", "4.0"], ["1", "3.0"]]
    resumed.log_metrics({"train/loss": 0.5, "val/loss": 0.25}, 2)
    resumed.save()
    assert rows_of(interrupted) == [
        ["step", "train/loss", "val/loss"],
        ["0", "4.0", ""],
        ["1", "3.0", ""],
        ["2", "0.5", "0.25"],
    ]
    assert [path.name for path in interrupted.parent.glob(".*")] == []


def test_epoch_that_is_open_is_logged_anew(make_logger, interrupted):
    make_logger().restore(2, has_open_epoch=True)
    assert rows_of(interrupted) == [["step", "train/loss"], ["0", "4.0"]]


@pytest.mark.parametrize("damage", [b"1", b"\x82\xff,\0\n", b"7,1.0,2.0\n"])
def test_row_that_was_cut_or_damaged_is_left_out(make_logger, interrupted, damage):
    with interrupted.open("ab") as file:
        file.write(damage)
    make_logger().restore(9, has_open_epoch=False)
    assert [row[0] for row in rows_of(interrupted)] == ["step", "0", "1", "2", "3"]


def test_kill_while_a_file_is_restored_loses_no_row(make_logger, interrupted, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(csv_logger, "write_atomically", kill)
        with pytest.raises(KeyboardInterrupt):
            make_logger().restore(3, has_open_epoch=False)
    make_logger().restore(3, has_open_epoch=False)
    assert [row[0] for row in rows_of(interrupted)] == ["step", "0", "1", "2"]


def test_kill_while_a_column_is_added_loses_no_row(make_logger, interrupted, monkeypatch):
    before = interrupted.read_text()
    logger = make_logger()
    logger.restore(9, has_open_epoch=False)
    logger.log_metrics({"val/loss": 0.5}, 4)
    monkeypatch.setattr(csv_logger, "_to_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        logger.save()
    assert interrupted.read_text() == before
