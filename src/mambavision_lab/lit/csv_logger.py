"""A CSV logger whose file survives a kill at any moment, and that continues the file of a resumed run."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.files import rename, write_atomically

Row = dict[str, Any]

_OLD = ".metrics.csv.old"  # of a run that resumes, until its rows are in the new file


class ResumableCSVLogger(CSVLogger):
    """Lightning's CSV logger with a file that is never half there; arguments as in Lightning's."""

    _writer: "_Writer | None" = None

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer; made on first use, it removes an earlier file."""
        if self._writer is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._writer = _Writer(log_dir=self.log_dir)
        return self._writer

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rows that are not in the file yet."""
        if self._writer is not None:
            self._writer.save()

    def restore(self, num_steps: int, has_open_epoch: bool) -> None:
        """Keep the rows of a resumed run's first num_steps steps; to be called before anything is logged.

        Those of training in the last epoch are left out where that has not ended: they will be logged again.
        """
        path, old = Path(self.log_dir, ExperimentWriter.NAME_METRICS_FILE), Path(self.log_dir, _OLD)
        if path.is_file():
            rename(path, old)
        if old.is_file():  # also where a kill came between the two
            rows = [row for row in _read_rows(old) if int(row["step"]) < num_steps]
            if has_open_epoch:
                last = str(num_steps - 1)
                rows = [r for r in rows if not (r["step"] == last and r.get("train/loss"))]
            self.experiment.metrics = rows
            self.experiment.save()
            old.unlink()


class _Writer(ExperimentWriter):
    """Append rows; where they have new columns, replace the file in one step."""

    def save(self) -> None:
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        columns = sorted({*self.metrics_keys}.union(*self.metrics))
        if columns == self.metrics_keys and path.is_file():
            with path.open("a", newline="") as file:
                file.write(_to_text(self.metrics, columns))
        else:
            before = _read_rows(path) if path.is_file() else []
            header = _to_text([dict(zip(columns, columns, strict=True))], columns)
            write_atomically(path, header + _to_text(before + self.metrics, columns))
        self.metrics_keys, self.metrics = columns, []


def _to_text(rows: list[Row], columns: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue()


def _read_rows(path: Path) -> list[Row]:
    """Read all rows but those that were cut or damaged."""
    with path.open(newline="", errors="replace") as file:
        rows = csv.DictReader(line for line in file if line.endswith("\n"))
        return [row for row in rows if str(row.get("step")).isdigit() and None not in row]
