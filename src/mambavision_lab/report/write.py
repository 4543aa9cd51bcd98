"""Write reports, curves and comparisons from run folders."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer

from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.callbacks.record_predictions import RecordPredictions
from mambavision_lab.report.figures import all_curves
from mambavision_lab.report.page import render_comparison, render_report
from mambavision_lab.report.publish import publish
from mambavision_lab.report.run_record import OUTCOME_FILE, read_run
from mambavision_lab.runs.folder import write_json

log = logging.getLogger(__name__)


def write_report(run_folder: str | Path) -> Path:
    """Write `report.html` into a run folder from what is stored there; returns its path.

    Raises:
        ConfigError: It is no run folder, a file in it is damaged, or it cannot be written to.
    """
    record = read_run(run_folder)
    return _write(render_report(record), record.folder / "report.html")


def write_comparison(run_folders: Sequence[str | Path], output: str | Path) -> Path:
    """Write a page that compares runs; returns its path.

    Raises:
        ConfigError: One is no run folder, or the output cannot be written.
    """
    return _write(render_comparison([read_run(folder) for folder in run_folders]), Path(output))


def plot_training_curves(run_folder: str | Path, output: str | Path | None = None) -> Path:
    """Draw loss, top-1, learning rate, gradient norm and images/s as one PNG; returns its path.

    Args:
        run_folder: Folder of a training run.
        output: File to write; by default `curves.png` in the run folder.

    Raises:
        ConfigError: It is no run folder, or has no curves.
    """
    record = read_run(run_folder)
    if not record.curves:
        raise ConfigError(
            f"{record.folder}: has no curves in metrics.csv; wanted a run with logger=csv that came "
            "to its first log"
        )
    path = Path(output) if output is not None else record.folder / "curves.png"
    all_curves({"run": record.curves}).savefig(path, dpi=110, facecolor="white")
    return path


@contextmanager
def reported(trainer: Trainer, folder: Path) -> Iterator[None]:
    """Write the run's report when the block ends, also by an error or an interruption.

    Nothing is written where the callback RecordPredictions is switched off. A failure to draw is
    logged and does not lose the run's result.
    """
    outcome = {"status": "finished"}
    try:
        yield
    except BaseException as error:
        is_stop = isinstance(error, KeyboardInterrupt | SystemExit)
        outcome = {"status": "interrupted" if is_stop else "failed"}
        if not is_stop:  # an exit status explains nothing
            outcome["error"] = f"{type(error).__name__}: {error}".strip(": ")
        raise
    finally:
        is_wanted = any(isinstance(c, RecordPredictions) for c in trainer.callbacks)  # type: ignore[attr-defined]
        if is_wanted and trainer.is_global_zero and (folder / "config.yaml").is_file():
            _write_safely(trainer, folder, outcome)


def _write_safely(trainer: Trainer, folder: Path, outcome: dict[str, str]) -> None:
    try:
        for logger in trainer.loggers:
            logger.save()  # rows that the CSV logger still holds
        write_json(outcome, folder / OUTCOME_FILE)
        write_report(folder)
        publish(read_run(folder), trainer.loggers, trainer.global_step)
    except Exception as error:  # whatever it is, the training's result stands
        log.warning(
            "the report was not written (%s: %s); remake it with: python -m mambavision_lab.report %s",
            type(error).__name__,
            " ".join(str(error).split()),
            folder,
            exc_info=log.isEnabledFor(logging.DEBUG),
        )


def _write(text: str, path: Path) -> Path:
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); give a file in a folder that can"
        ) from error
    return path
