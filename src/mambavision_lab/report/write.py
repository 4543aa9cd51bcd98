"""Write reports, curves and comparisons from run folders."""

from collections.abc import Sequence
from pathlib import Path

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import write_atomically
from mambavision_lab.report.figures import all_curves
from mambavision_lab.report.page import render_comparison, render_report
from mambavision_lab.report.run_record import read_run


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
    """Draw loss, accuracy (mAP, Dice), learning rate, gradient norm and images/s as a PNG; returns its path.

    Args:
        run_folder: Folder of a training run.
        output: File to write; by default `curves.png` in the run folder.

    Raises:
        ConfigError: It is no run folder, or has no curves.
    """
    record = read_run(run_folder)
    if not record.curves:
        raise ConfigError(
            f"{record.folder}: has no curves in metrics.csv; wanted a run with logger=csv that "
            "logged at least once"
        )
    path = Path(output) if output is not None else record.folder / "curves.png"
    all_curves({"run": record.curves}).savefig(path, dpi=110, facecolor="white")
    return path


def _write(text: str, path: Path) -> Path:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); give a file in a folder that can"
        ) from error
    return path
