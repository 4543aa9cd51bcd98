"""Write the report of a training run when it ends."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer

from mambavision_lab.errors import reason
from mambavision_lab.lit.callbacks.record_predictions import RecordPredictions
from mambavision_lab.report.publish import publish
from mambavision_lab.report.run_record import OUTCOME_FILE, read_run
from mambavision_lab.report.write import write_report
from mambavision_lab.runs.folder import write_json

log = logging.getLogger(__name__)


@contextmanager
def report_at_end(trainer: Trainer, folder: Path) -> Iterator[None]:
    """Write a run's report when the block ends, also by an error.

    Nothing is written where the callback RecordPredictions is switched off, and no page after a signal: what
    sent it may not wait. An error in the report is logged; the run's result is kept.

    Args:
        trainer: The trainer that runs in the block.
        folder: The run folder.
    """
    outcome, is_signalled = {"status": "finished"}, False
    try:
        yield
    except BaseException as error:
        is_interruption = isinstance(error, KeyboardInterrupt | SystemExit)
        is_signalled = isinstance(error, SystemExit)
        outcome = {"status": "interrupted" if is_interruption else "failed"}
        if not is_interruption:  # an exit status explains nothing
            outcome["error"] = f"{type(error).__name__}: {error}".strip(": ")
        raise
    finally:
        is_wanted = any(isinstance(c, RecordPredictions) for c in trainer.callbacks)  # type: ignore[attr-defined]
        if is_wanted and trainer.is_global_zero and (folder / "config.yaml").is_file():
            if is_signalled:
                write_json(outcome, folder / OUTCOME_FILE)
            else:
                _write(trainer, folder, outcome)


def _write(trainer: Trainer, folder: Path, outcome: dict[str, str]) -> None:
    try:
        for logger in trainer.loggers:
            logger.save()  # rows that the CSV logger still holds
        write_json(outcome, folder / OUTCOME_FILE)
        write_report(folder)
        publish(read_run(folder), trainer.loggers, trainer.global_step)
    except Exception as error:  # whatever it is, the training's result is kept
        log.warning(
            "the report was not written (%s: %s); try again with: python -m mambavision_lab.report %s",
            type(error).__name__,
            reason(error),
            folder,
            exc_info=log.isEnabledFor(logging.DEBUG),
        )
