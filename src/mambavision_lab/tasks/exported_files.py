"""Write the files of one format and what they were measured to be, in a folder that is whole or not there."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mambavision_lab.compress.int8 import has_vnni, quantize
from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.base import ExportFormat
from mambavision_lab.exporters.onnx import OnnxFormat
from mambavision_lab.exporters.runtimes.base import Runtime, run_module
from mambavision_lab.exporters.verify import (
    Latency,
    as_json,
    compare,
    latency_table,
    parity_table,
    require_parity,
    resize,
    time_both,
    write_markdown,
)
from mambavision_lab.runs.folder import write_json
from mambavision_lab.tasks.console import console
from mambavision_lab.tasks.export_source import ExportSource


@dataclass(frozen=True)
class Written:
    """Files of one format, loaded in their own runtime, and what was measured of them.

    Attributes:
        sides: Those of the only images that they take; None where they may vary.
    """

    run: Runtime
    sides: tuple[int, ...] | None
    details: dict[str, str]
    times: list[Latency]
    difference: float
    megabytes: float
    load_s: float


def refuse_existing(output: Path, names: list[str], overwrite: bool) -> None:
    """Stop before anything is overwritten.

    Raises:
        ConfigError: One of the files exists.
    """
    existing = [name for name in names if (output / name).exists()]
    if existing and not overwrite:
        raise ConfigError(
            f"output={output}: {existing[0]} is already there; give overwrite=true or another output="
        )


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """Make the output folder, and in it a hidden one for files that are not finished.

    An output folder that was made for nothing is removed.

    Raises:
        ConfigError: It cannot be written to.
    """
    existed = output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=output, prefix=".unfinished-"))
    except OSError as error:
        raise ConfigError(
            f"output={output}: cannot be written to ({error.strerror}); give another folder"
        ) from error
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed and not any(output.iterdir()):
            output.rmdir()


def write_and_compare(export_format: ExportFormat, source: ExportSource, folder: Path) -> Written:
    """Write files and tables into a folder and print the tables.

    Raises:
        ConfigError: The network does not fit the format, or there are no images to calibrate on.
        ParityError: The file computes something else.
        AccuracyFloorError: The file, in 8 bits, loses more of the metric than is allowed.
    """
    own = source.inference
    spec = export_format.make_spec(own.net, own.in_chans, own.preparation.sides, own.description)
    sides = None if spec.any_size else spec.sides
    details: dict[str, str] = {}
    if isinstance(export_format, OnnxFormat) and export_format.quantize is not None:
        _prepare_int8(export_format, source, sides, details)
    start = time.perf_counter()
    with console.status(f"exporting as {export_format.name}"):
        export_format.write(spec, folder)
    seconds = time.perf_counter() - start
    megabytes = sum((folder / name).stat().st_size for name in export_format.files) / 1e6
    start = time.perf_counter()
    run = export_format.load(folder)
    load_s = time.perf_counter() - start
    with console.status("comparing with eager mode"):
        rows = compare(run, spec, source.real, export_format.tolerance)
    console.print(parity_table(rows))
    if export_format.quantize is None:
        require_parity(rows, export_format.tolerance)
    times = time_both(run, spec) if export_format.runs_here else []
    if times:
        console.print(latency_table(times))
    varies = "batch, height and width" if spec.any_size else "batch only"
    details |= {"varies": varies, "size": f"{megabytes:.1f} MB", "export took": f"{seconds:.1f} s"}
    json_name, markdown_name = export_format.tables
    write_json(as_json(details, rows, times), folder / json_name)
    write_markdown(details, rows, times, folder / markdown_name)
    difference = max(row.difference for row in rows)
    return Written(run, sides, details, times, difference, megabytes, load_s)


def _prepare_int8(
    export_format: OnnxFormat,
    source: ExportSource,
    sides: tuple[int, ...] | None,
    details: dict[str, str],
) -> None:
    """Hand the format a function that quantizes, with images to calibrate and to measure on, of its size.

    The function adds to the details what it found.

    Raises:
        ConfigError: There are none.
    """
    images = source.training_images(export_format.num_calibration)
    images = images if sides is None else resize(images, sides)
    reduce_range = export_format.reduce_range
    if reduce_range is None:
        reduce_range = has_vnni() is False
        if reduce_range:
            console.print(
                "this processor has no VNNI, so 8-bit products may saturate: weights have 7 bits; "
                "export.reduce_range=false keeps 8, for a processor that has it",
                soft_wrap=True,
            )
    baseline = source.measure(run_module(source.inference.net), "val", sides).metric

    def quantize_file(full: Path, target: Path) -> None:
        assert export_format.quantize is not None
        found = quantize(
            full,
            target,
            images,
            export_format.quantize,
            measure=lambda run: source.measure(run, "val", sides).metric,
            baseline=baseline,
            max_drop=export_format.max_drop,
            reduce_range=bool(reduce_range),
            report=console.print,
        )
        details["int8"] = (
            f"weights of {7 if reduce_range else 8} bits, {len(found.left)} of {found.num_layers} layers in "
            f"float32, validation metric {0 - found.drop:+.4f}"
        )

    export_format.quantize_file = quantize_file


def take(names: list[str], unfinished: Path, output: Path, overwrite: bool) -> None:
    """Move finished files to the output folder.

    Raises:
        ConfigError: One is there by now, of another export at the same time, and may not be overwritten.
    """
    refuse_existing(output, names, overwrite)
    for name in names:
        if not overwrite:
            try:
                os.link(unfinished / name, output / name)
                continue
            except FileExistsError:
                refuse_existing(output, [name], overwrite)
            except OSError:  # a file system without links
                pass
        (unfinished / name).replace(output / name)
