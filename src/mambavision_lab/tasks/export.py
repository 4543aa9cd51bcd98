"""Write a network for another runtime, or for all, if the file computes what the network does."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from mambavision_lab.compress.int8 import AccuracyFloorError
from mambavision_lab.errors import ConfigError, NotInstalledError, ReportedError, error_text, reason
from mambavision_lab.exporters.base import ExportFormat
from mambavision_lab.exporters.comparison import Compared, comparison_table, write_comparison
from mambavision_lab.exporters.verify import ParityError
from mambavision_lab.runs.folder import open_run_folder, short_path
from mambavision_lab.runs.snapshot import find_snapshot
from mambavision_lab.tasks.build import build
from mambavision_lab.tasks.console import console
from mambavision_lab.tasks.export_source import ExportSource
from mambavision_lab.tasks.exported_files import (
    Written,
    refuse_existing,
    take,
    unfinished_folder,
    write_and_compare,
)

log = logging.getLogger(__name__)

_COMPARISON = ["comparison.csv", "comparison.md", "comparison.png"]


def export(cfg: DictConfig) -> None:
    """Write the files of one format, or of all, and tables of their comparison with eager mode.

    Args:
        cfg: The composed config, as in `configs/export.yaml`.

    Raises:
        ConfigError: The network does not fit the format, or the output cannot be written.
        SystemExit: The file computes something else: one line, status 1, and no file is left.
    """
    output = Path(cfg.output) if cfg.output else find_snapshot(cfg.ckpt_path).parent / "exports"
    if "_target_" in cfg.export:
        _export_one(cfg, output)
    else:
        _export_all(cfg, output)


def _export_one(cfg: DictConfig, output: Path) -> None:
    export_format: ExportFormat = build(cfg.export, "export")
    names = [*export_format.files, *export_format.tables]
    refuse_existing(output, names, cfg.overwrite)
    source = ExportSource(cfg)
    if source.real is None:
        console.print(
            f"no test images of the run's data ({source.why_no_data}); give images=FOLDER to compare on "
            "real ones",
            soft_wrap=True,
        )
    with unfinished_folder(output) as unfinished:
        open_run_folder(cfg, is_latest=False)
        try:
            written = write_and_compare(export_format, source, unfinished)
        except (ParityError, AccuracyFloorError) as error:
            raise _report(str(error)) from error
        take(names, unfinished, output, cfg.overwrite)
    for key, value in written.details.items():
        console.print(f"{key}: {value}", soft_wrap=True)
    path = short_path(output / export_format.files[0])
    console.print(f"written: {path}", soft_wrap=True)


def _report(message: str) -> ReportedError:
    """Print what went wrong of a command that was right, and return the exit with status 1."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    return ReportedError(1, message)


def _export_all(cfg: DictConfig, output: Path) -> None:
    """Write every format that can be written here, and one table and picture of them."""
    source = ExportSource(cfg)
    formats: dict[str, ExportFormat] = {}
    rows: dict[str, Compared] = {}
    for name, node in cfg.export.items():
        try:
            formats[name] = build(node, f"export.{name}")
        except NotInstalledError as error:
            rows[name] = Compared(name, missing=reason(error))
        except ConfigError as error:
            raise ConfigError(f"export.{name}: {reason(error, 600)}") from error
    if not formats and not rows:
        raise ConfigError("export=all: all formats are left out; keep one")
    _refuse_same_files(formats)
    names = [n for one in formats.values() for n in (*one.files, *one.tables)]
    refuse_existing(output, [*names, *_COMPARISON], cfg.overwrite)
    with unfinished_folder(output) as unfinished:
        open_run_folder(cfg, is_latest=False)
        for name, one in formats.items():
            console.print(f"export={name}", style="bold")
            try:
                written = write_and_compare(one, source, unfinished)
                rows[name] = _compared(name, one, written, source)
                rows.setdefault("eager", _eager(written, source))
            except (ConfigError, ParityError, AccuracyFloorError) as error:
                rows[name] = Compared(name, missing=reason(error))
            except Exception as error:  # runtimes and exporters have their own kinds
                log.exception("export=%s", name)
                rows[name] = Compared(name, missing=error_text(error))
            else:
                take([*one.files, *one.tables], unfinished, output, cfg.overwrite)
        ordered = [rows[name] for name in ("eager", *cfg.export) if name in rows]
        names = write_comparison(ordered, source.metric_name, unfinished)
        take(names, unfinished, output, cfg.overwrite)
    console.print(comparison_table(ordered, source.metric_name))
    for row in ordered:
        if row.missing:
            console.print(f"not run: {row.name}: {row.missing}", soft_wrap=True)
    console.print(f"written: {short_path(output)}", soft_wrap=True)
    if not any(row.file for row in rows.values()):
        raise _report("export=all: no format could be written; why is told above")


def _refuse_same_files(formats: dict[str, ExportFormat]) -> None:
    """Refuse formats of which one would overwrite another's file."""
    writers: dict[str, str] = {}
    for name, one in formats.items():
        for file in one.files:
            if file in writers:
                raise ConfigError(
                    f"export.{writers[file]} and export.{name} both write {file}; leave one out with "
                    f"~export.{name}"
                )
            writers[file] = name


def _compared(
    name: str, export_format: ExportFormat, written: Written, source: ExportSource
) -> Compared:
    latency = {row.batch: row.exported_ms for row in written.times}
    reasons = [] if export_format.runs_here else ["latency, as it runs in browsers"]
    if source.data is None:
        reasons.append(f"metric ({source.why_no_data})")
    measured = None if source.data is None else source.measure(written.run, "test", written.sides)
    return Compared(
        name=name,
        file=export_format.files[0],
        megabytes=written.megabytes,
        load_s=written.load_s,
        batch1_ms=latency.get(1),
        batch8_ms=latency.get(8),
        difference=written.difference,
        metric=None if measured is None else measured.metric,
        agreement=None if measured is None else measured.agreement(source.eager(written.sides)),
        missing="; ".join(reasons),
    )


def _eager(written: Written, source: ExportSource) -> Compared:
    """Describe the network itself, as it was timed beside the first file."""
    latency = {row.batch: row.eager_ms for row in written.times}
    return Compared(
        name="eager",
        batch1_ms=latency.get(1),
        batch8_ms=latency.get(8),
        metric=None if source.data is None else source.eager(written.sides).metric,
    )
