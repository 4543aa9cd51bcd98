"""Classify many image files: decode them in threads, in batches, and write results as they come."""

import csv
import glob
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TextIO

import torch
from omegaconf import DictConfig
from PIL import Image, ImageDraw
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mambavision_lab.config.overrides import given_overrides, key_of
from mambavision_lab.counting import counted
from mambavision_lab.data.folders import IMAGES, FileKind, describe_others
from mambavision_lab.data.volumes import four_slices
from mambavision_lab.data.workers import auto_workers
from mambavision_lab.errors import ConfigError
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.models.ranking import Ranking
from mambavision_lab.runs.folder import open_run_folder, short_path, write_json
from mambavision_lab.tasks.console import console, name_below, printable
from mambavision_lab.tasks.memory import keep_freed_memory
from mambavision_lab.tasks.predict_masks import predict_masks

log = logging.getLogger(__name__)

_NUM_SHOWN = 20  # rows of the printed table
_OF_CLASSES = ("format", "top_k", "threshold", "batch_size", "num_workers")  # not of masks
_TILE = 144  # pixels a side of a picture on the contact sheet


def predict(cfg: DictConfig) -> None:
    """Write the classes of all images, a contact sheet and counts into the run's folder.

    Args:
        cfg: The composed config, as in `configs/predict.yaml`.

    Raises:
        ConfigError: There are no images, none can be read, or a setting is impossible.
    """
    for name, least in (("top_k", 1), ("batch_size", 1), ("num_pictures", 0)):
        if cfg[name] < least:
            raise ConfigError(f"{name}={cfg[name]} must be at least {least}")
    if not 0 <= cfg.threshold <= 1:
        raise ConfigError(f"threshold={cfg.threshold}: wanted a probability, from 0 to 1")
    if cfg.num_workers is not None and cfg.num_workers < 1:
        raise ConfigError(f"num_workers={cfg.num_workers} must be at least 1")
    if cfg.format not in ("csv", "jsonl"):
        raise ConfigError(f"format={cfg.format}: no such format; choose csv or jsonl")
    keep_freed_memory()
    inference = MambaVisionInference(
        cfg.model_file or cfg.ckpt_path,
        device=cfg.device,
        scan_backend=cfg.ops.selective_scan.backend,
    )
    kind = inference.preparation.kind
    files = find_images(cfg.images, kind)
    if inference.has_masks:
        _refuse_settings_of_classes()
        predict_masks(cfg, inference, files)
        return
    num_classes = len(inference.require_class_names())
    inference.require_file_channels(cfg.model_file or cfg.ckpt_path)
    workers = cfg.num_workers or auto_workers()
    path = Path(cfg.paths.output_dir) / f"predictions.{cfg.format}"
    if path.exists():
        raise ConfigError(f"{path}: is already there; give another hydra.run.dir, or none")
    folder = open_run_folder(cfg, is_latest=False)
    top_k = None if inference.is_multilabel else min(cfg.top_k, num_classes)
    shown: list[tuple[str, Tensor, Ranking]] = []
    skipped: dict[str, str] = {}
    num_done = 0
    # Names of files may hold bytes that do not decode; they are written as they are.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        write = _writer(file, cfg.format, top_k)
        found = classify(
            inference, files, cfg.batch_size, workers, top_k=cfg.top_k, threshold=cfg.threshold
        )
        for name, pixels, ranking in track(found, "predict", total=len(files), console=console):
            if isinstance(ranking, ConfigError):
                skipped[name] = str(ranking)
                console.print(f"skipped: {printable(ranking)}", soft_wrap=True)
                continue
            write(name, ranking)
            num_done += 1
            if len(shown) < max(cfg.num_pictures, _NUM_SHOWN):
                shown.append((name_below(cfg.images, name), pixels, ranking))
    write_json({"images": num_done, "skipped": skipped}, folder / "summary.json")
    if not num_done:
        raise ConfigError(f"images={cfg.images}: none of the files can be read; see above")
    if cfg.num_pictures:
        contact_sheet(shown[: cfg.num_pictures]).save(folder / "contact_sheet.png")
    _print_table(shown[:_NUM_SHOWN], num_done, num_named=None if inference.is_multilabel else 2)
    console.print(f"{counted(num_done, kind.noun)} classified, {len(skipped)} skipped")
    console.print(f"run folder: {short_path(folder)}", soft_wrap=True)


def _refuse_settings_of_classes() -> None:
    """Refuse what was given for predictions of classes, where masks are written one by one."""
    for override in given_overrides():
        if key_of(override) in _OF_CLASSES:
            raise ConfigError(
                f"{override}: the network gives masks, one image at a time, and one table of their shares; "
                "leave it out"
            )


def find_images(images: str, kind: FileKind = IMAGES) -> list[str]:
    """Find the images, or others, that a file, a folder (and all below it) or a glob names, sorted.

    Raises:
        ConfigError: There are none.
    """
    if Path(images).is_file():
        return [images]
    if Path(images).is_dir():
        found, seen = [], set()
        for parent, folders, names in os.walk(images, followlinks=True):
            if (real := os.path.realpath(parent)) in seen:
                folders.clear()  # a link back up
                continue
            seen.add(real)
            if kind.is_folder(parent):
                folders.clear()
                found.append(parent)
                continue
            found += [os.path.join(parent, name) for name in names]
    else:
        found = [name for name in _match(images) if Path(name).is_file() or _is_one(name, kind)]
    files = sorted(name for name in found if _is_one(name, kind))
    if not files:
        wanted = " ".join(kind.suffixes)
        parts = f", or folders of {' '.join(kind.parts)}" if kind.parts else ""
        raise ConfigError(
            f"images={images}: no {kind.noun} there (wanted {wanted}{parts}); "
            "give a file, a folder or a glob"
        )
    others = describe_others((Path(name).name for name in found if not _is_one(name, kind)), kind)
    if others:
        log.warning("images=%s: not read as %s: %s", images, kind.noun, others)
    return files


def _is_one(name: str, kind: FileKind) -> bool:
    path = Path(name)
    return kind.is_folder(path) if path.is_dir() else kind.is_file(path.name)


def _match(images: str) -> list[str]:
    """Match a glob; the folder that it begins with is taken literally, whatever signs its name has."""
    folder = next(parent for parent in Path(images).parents if parent.is_dir())
    pattern = Path(glob.escape(str(folder)), Path(images).relative_to(folder))
    return glob.glob(str(pattern), recursive=True)  # noqa: PTH207 (absolute too)


def classify(
    inference: MambaVisionInference,
    files: list[str],
    batch_size: int,
    num_workers: int,
    *,
    top_k: int,
    threshold: float,
) -> Iterator[tuple[str, Tensor, Ranking | ConfigError]]:
    """Yield each file's prepared pixels and classes, or the error where it cannot be read.

    Threads decode the next batches while the network runs on one.
    """
    waiting: dict[str, Tensor] = {}

    def results() -> Iterator[tuple[str, Tensor, Ranking | ConfigError]]:
        rankings = inference.rank(torch.stack([*waiting.values()]), top_k, threshold)
        for (name, pixels), ranking in zip(waiting.items(), rankings, strict=True):
            yield name, pixels, ranking
        waiting.clear()

    for name, image in stream(inference, files, num_workers, ahead=2 * batch_size):
        if isinstance(image, ConfigError):
            yield name, torch.empty(0), image
            continue
        waiting[name] = image
        if len(waiting) == batch_size:
            yield from results()
    if waiting:
        yield from results()


def stream(
    inference: MambaVisionInference, files: list[str], num_workers: int, ahead: int
) -> Iterator[tuple[str, Tensor | ConfigError]]:
    """Yield each file's prepared pixels, or its error, in order; `ahead` files are decoded in advance."""

    def load(name: str) -> Tensor | ConfigError:
        try:
            return inference.prepare(name)
        except ConfigError as error:
            return error

    rest = iter(files)
    with ThreadPoolExecutor(num_workers) as pool:
        queue: deque[tuple[str, Future[Tensor | ConfigError]]] = deque(
            (name, pool.submit(load, name)) for name in islice(rest, ahead)
        )
        while queue:
            name, future = queue.popleft()
            result = future.result()
            queue.extend((more, pool.submit(load, more)) for more in islice(rest, 1))
            yield name, result


def contact_sheet(shown: list[tuple[str, Tensor, Ranking]]) -> Image.Image:
    """Lay images out in a grid, as the network takes them, with the best class below each."""
    columns = min(8, len(shown))
    rows = -(-len(shown) // columns)
    width, height = _TILE + 8, _TILE + 40
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, pixels, ranking) in enumerate(shown):
        left, top = i % columns * width + 4, i // columns * height + 4
        plane = pixels if pixels.ndim == 3 else four_slices(pixels)
        plane = plane if len(plane) == 3 else plane[:1]
        picture = Image.fromarray(plane.expand(3, -1, -1).permute(1, 2, 0).numpy())
        sheet.paste(picture.resize((_TILE, _TILE), Image.Resampling.BICUBIC), (left, top))
        text = f"{ranking[0][1]:.0%} {ranking[0][0][:18]}" if ranking else "no class"
        pen.text((left, top + _TILE + 2), text, fill="black")
        pen.text((left, top + _TILE + 16), printable(name[-22:]), fill="gray")
    return sheet


def _writer(file: TextIO, format_name: str, top_k: int | None) -> Callable[[str, Ranking], None]:
    """Return a function that writes one image's ranking: top_k classes, or any number of labels."""
    if format_name == "jsonl":

        def write_json_line(name: str, ranking: Ranking) -> None:
            classes = [{"class": c, "probability": p} for c, p in ranking]
            file.write(json.dumps({"image": name, "classes": classes}) + "\n")

        return write_json_line
    table = csv.writer(file)
    if top_k is None:
        table.writerow(["image", "labels", "probabilities"])

        def write_labels(name: str, ranking: Ranking) -> None:
            labels, probabilities = [c for c, _ in ranking], [f"{p:.6f}" for _, p in ranking]
            table.writerow([name, ";".join(labels), ";".join(probabilities)])

        return write_labels
    numbered = [f"{n}_{k + 1}" for k in range(top_k) for n in ("class", "probability")]
    table.writerow(["image", *numbered])

    def write_row(name: str, ranking: Ranking) -> None:
        table.writerow([name, *(value for c, p in ranking for value in (c, f"{p:.6f}"))])

    return write_row


def _print_table(
    shown: list[tuple[str, Tensor, Ranking]], num_done: int, num_named: int | None
) -> None:
    rest = f" (first {len(shown)} of {num_done})" if num_done > len(shown) else ""
    table = Table("image", "class", "probability", "next", title=f"predictions{rest}")
    for name, _, ranking in shown:
        named = [(c, f"{p:.1%}") for c, p in ranking] or [("none", "")]
        following = ", ".join(f"{c} {p}" for c, p in named[1:num_named])
        table.add_row(printable(name), *named[0], following)
    console.print(table)
