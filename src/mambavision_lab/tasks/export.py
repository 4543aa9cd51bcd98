"""Write a network for another runtime, if the file computes what the network does."""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from mambavision_lab.errors import ConfigError, ReportedError
from mambavision_lab.exporters.base import ExportFormat, ExportSpec
from mambavision_lab.exporters.verify import (
    BATCHES,
    ParityError,
    as_json,
    compare,
    latency_table,
    parity_table,
    require_parity,
    time_both,
    write_markdown,
)
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.runs.folder import open_run_folder, short_path, write_json
from mambavision_lab.runs.snapshot import find_snapshot
from mambavision_lab.tasks.build import build, build_data
from mambavision_lab.tasks.console import console
from mambavision_lab.tasks.predict import find_images


def export(cfg: DictConfig) -> None:
    """Write the files of one format and tables of their comparison with eager mode.

    Args:
        cfg: The composed config, as in `configs/export.yaml`.

    Raises:
        ConfigError: The network does not fit the format, or the output cannot be written.
        SystemExit: The file computes something else: one line, status 1, and no file is left.
    """
    export_format: ExportFormat = build(cfg.export, "export")
    output = Path(cfg.output) if cfg.output else find_snapshot(cfg.ckpt_path).parent / "exports"
    tables = [f"{export_format.files[0]}.json", f"{export_format.files[0]}.md"]
    names = [*export_format.files, *tables]
    refuse_existing(output, names, cfg.overwrite)
    inference = MambaVisionInference(cfg.ckpt_path, device="cpu")
    if not inference.class_names:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: has no class names, which an export contains; train it again"
        )
    spec = export_format.make_spec(
        inference.torch_net("export"),
        inference.in_chans,
        inference.image_size,
        inference.description,
    )
    real = _real_images(cfg, inference)
    existed = output.exists()
    unfinished = make_folder(output)
    try:
        open_run_folder(cfg, is_latest=False)
        details = _write_and_compare(export_format, spec, real, unfinished)
        for name in names:
            (unfinished / name).replace(output / name)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise ReportedError(1, str(error)) from error  # not 2: the command was right
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed and not any(output.iterdir()):
            output.rmdir()
    for key, value in details.items():
        console.print(f"{key}: {value}", soft_wrap=True)
    path = short_path(output / export_format.files[0])
    console.print(f"written: {path}", soft_wrap=True)


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


def make_folder(output: Path) -> Path:
    """Make the output folder, and in it a hidden one for files that are not finished.

    Raises:
        ConfigError: It cannot be written to.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=output, prefix=".unfinished-"))
    except OSError as error:
        raise ConfigError(
            f"output={output}: cannot be written to ({error.strerror}); give another folder"
        ) from error


def _write_and_compare(
    export_format: ExportFormat, spec: ExportSpec, real: Tensor | None, folder: Path
) -> dict[str, str]:
    """Write files and tables into a folder and print the tables; returns details to print."""
    start = time.perf_counter()
    with console.status(f"exporting as {export_format.name}"):
        export_format.write(spec, folder)
    seconds = time.perf_counter() - start
    megabytes = sum((folder / name).stat().st_size for name in export_format.files) / 1e6
    with console.status("comparing with eager mode"):
        run = export_format.load(folder)
        rows = compare(run, spec, real, export_format.tolerance)
    console.print(parity_table(rows))
    require_parity(rows, export_format.tolerance)
    times = time_both(run, spec)
    console.print(latency_table(times))
    varies = "batch, height and width" if spec.any_size else "batch only"
    details = {"varies": varies, "size": f"{megabytes:.1f} MB", "export took": f"{seconds:.1f} s"}
    write_json(as_json(details, rows, times), folder / f"{export_format.files[0]}.json")
    write_markdown(details, rows, times, folder / f"{export_format.files[0]}.md")
    return details


def _real_images(cfg: DictConfig, inference: MambaVisionInference) -> Tensor | None:
    """Load a few prepared, normalised images: those of `images`, else test images of the run's data."""
    count = max(BATCHES)
    if cfg.images is not None:
        pixels = [inference.prepare(name) for name in find_images(cfg.images)[:count]]
    else:
        try:
            data = build_data(cfg)
            data.use_preprocessing(inference.description["preprocessing"])
            test = data.splits.test
        except ConfigError as error:
            console.print(
                f"no test images of the run's data ({error}); give images=FOLDER to compare on real ones",
                soft_wrap=True,
            )
            return None
        pixels = [test[i][0] for i in range(min(count, len(test)))]  # type: ignore[arg-type]
    return inference.normalize(torch.stack(pixels))
