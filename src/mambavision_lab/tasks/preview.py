"""Preview a data set: augmented batches, image statistics, files that cannot be read, speed of the loader."""

from typing import Any

from lightning.pytorch import seed_everything
from omegaconf import DictConfig

from mambavision_lab.analysis.augmented_batches import augment, choose_images, draw
from mambavision_lab.analysis.image_statistics import ImageRecord, describe, scan_images
from mambavision_lab.analysis.loader_speed import (
    measure_loading,
    measure_preparation,
    worker_counts,
)
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.checked_files import CheckedFiles
from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.labelled_files import LabelledFiles
from mambavision_lab.data.mask_files import MaskFiles
from mambavision_lab.errors import ConfigError
from mambavision_lab.runs.folder import open_run_folder, short_path, write_json
from mambavision_lab.tasks.build import build_data
from mambavision_lab.tasks.console import console, printable
from mambavision_lab.tasks.preview_tables import print_statistics

_MAX_TILES = 100  # of the picture, in either direction


def preview(cfg: DictConfig) -> None:
    """Draw augmented batches into `preview.png`, and write statistics as tables and `preview.json`.

    Args:
        cfg: The composed config, as in `configs/preview.yaml`.

    Raises:
        ConfigError: The data are missing, or no image can be read.
    """
    if cfg.num_images % 2 or cfg.num_images > _MAX_TILES:
        raise ConfigError(
            f"num_images={cfg.num_images}: wanted an even number, since images are mixed in pairs, of "
            f"at most {_MAX_TILES}"
        )
    if cfg.num_epochs > _MAX_TILES:
        raise ConfigError(f"num_epochs={cfg.num_epochs}: wanted at most {_MAX_TILES}")
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = _build(cfg)
    with console.status("scanning images"):
        records = scan_images(data, cfg.num_scanned)
    labels = {r.index: r.label for r in records if r.split == "train" and r.error is None}
    if not labels:
        raise ConfigError(f"data.root={data.root}: no training image that was scanned can be read")
    chosen = choose_images(labels, min(cfg.num_images, len(labels) // 2 * 2 or 1), cfg.seed)
    folder = open_run_folder(cfg, is_latest=False)
    with console.status("augmenting images"):
        names = [printable(name) for name in data.class_names]
        batches = augment(data, chosen, cfg.num_epochs)
        draw(batches, names, cfg.name, folder / "preview.png")
    statistics = describe(data, records)
    with console.status("measuring the loader"):
        _leave_out_unreadable(data, records)
        speeds = _measure(data, cfg.seconds) if cfg.seconds else {}
    write_json(statistics | speeds, folder / "preview.json")
    print_statistics(data, statistics | speeds)
    console.print(f"written: {short_path(folder)}/preview.png and preview.json", soft_wrap=True)


def check_files(cfg: DictConfig) -> None:
    """Print why each file that cannot be read cannot, for all files of the data.

    Args:
        cfg: The composed config, as in `configs/preview.yaml`.

    Raises:
        ConfigError: There is one, or the data are missing.
    """
    data = _build(cfg)
    if not isinstance(data, CheckedFiles):
        return
    with console.status("checking files"):
        bad = data.find_bad_images()
    for message in bad.values():
        console.print(printable(message), soft_wrap=True)
    if bad:
        raise data.refusal(bad)


def _build(cfg: DictConfig) -> ImageDataModule:
    data = build_data(cfg)
    if isinstance(data, ImageFilesDataModule):
        data.on_bad_image = "error"  # or loading would check all files, to skip what is to be shown
    return data


def _leave_out_unreadable(data: ImageDataModule, records: list[ImageRecord]) -> None:
    bad = {record.name for record in records if record.error is not None}
    train = data.splits.train
    if isinstance(train, LabelledFiles):
        train.items = [item for item in train.items if str(item[0]) not in bad]
    if isinstance(train, MaskFiles):
        train.pairs = [pair for pair in train.pairs if pair[0] not in bad]


def _measure(data: ImageDataModule, seconds: float) -> dict[str, Any]:
    """Measure images per second: loaded, by number of workers, and augmented and normalised."""
    try:
        loaded = {num: measure_loading(data, num, seconds) for num in worker_counts(data)}
        prepared = measure_preparation(data, seconds)
    except ConfigError as error:  # a file that was not scanned
        return {"not_loaded": str(error)}
    return {"loaded_per_s": loaded, "prepared_per_s": prepared}
