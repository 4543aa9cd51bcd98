"""A run ends with its report, however it ends."""

import json

import pytest

from mambavision_lab.lit.callbacks.record_predictions import RecordPredictions
from mambavision_lab.tasks.report import report_at_end


@pytest.fixture
def folder(tmp_path):
    """A run folder with a config and final metrics."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("name: toy\n")
    (run / "metrics.json").write_text(json.dumps({"test/acc1": 0.5}))
    return run


@pytest.fixture
def trainer(folder, make_trainer):
    return make_trainer(callbacks=[RecordPredictions(str(folder))])


def outcome_of(folder):
    return json.loads((folder / "outcome.json").read_text())


def test_finished_run_is_reported(trainer, folder):
    with report_at_end(trainer, folder):
        assert not (folder / "report.html").exists()
    assert outcome_of(folder) == {"status": "finished"}
    page = (folder / "report.html").read_text()
    assert "Finished." in page
    assert "50.00%" in page


def test_failed_run_is_reported_with_its_error(trainer, folder):
    with pytest.raises(RuntimeError, match="broke"), report_at_end(trainer, folder):
        raise RuntimeError("it broke")
    assert outcome_of(folder) == {"status": "failed", "error": "RuntimeError: it broke"}
    assert "RuntimeError: it broke" in (folder / "report.html").read_text()


def test_interrupted_run_is_reported(trainer, folder):
    with pytest.raises(KeyboardInterrupt), report_at_end(trainer, folder):
        raise KeyboardInterrupt
    assert outcome_of(folder) == {"status": "interrupted"}
    assert "Interrupted: the results are incomplete." in (folder / "report.html").read_text()


def test_run_that_a_signal_stopped_says_so_and_does_not_wait_for_a_page(trainer, folder):
    with pytest.raises(SystemExit), report_at_end(trainer, folder):
        raise SystemExit(143)
    assert outcome_of(folder) == {"status": "interrupted"}
    assert not (folder / "report.html").exists()


def test_failed_report_only_warns(trainer, folder, caplog):
    (folder / "predictions.npz").write_bytes(b"damaged")
    with report_at_end(trainer, folder):
        pass
    assert "the report was not written (ConfigError: " in caplog.text
    assert f"python -m mambavision_lab.report {folder}" in caplog.text


def test_nothing_is_written_without_the_callback_or_a_run_folder(trainer, make_trainer, folder):
    with report_at_end(make_trainer(), folder):
        pass
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "metrics.json"}
    (folder / "config.yaml").unlink()
    with report_at_end(trainer, folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["metrics.json"]
