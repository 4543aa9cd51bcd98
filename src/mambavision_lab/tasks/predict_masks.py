"""Write the masks that a segmentation predicts for image and volume files, and how much each class covers."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mambavision_lab.counting import counted
from mambavision_lab.data.mask_files import stem_of
from mambavision_lab.data.volumes import side_by_side
from mambavision_lab.errors import ConfigError
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.report.overlays import mask_colors, mask_overlay
from mambavision_lab.runs.folder import open_run_folder, short_path, write_json
from mambavision_lab.tasks.console import console, name_below, printable

_NUM_SHOWN = 20  # rows of the printed table


def predict_masks(cfg: DictConfig, inference: MambaVisionInference, files: list[str]) -> None:
    """Write a mask for each file, overlays of some, and the share of each class as a table.

    Args:
        cfg: The composed config, as in `configs/predict.yaml`.
        inference: A network that gives masks.
        files: Images or volumes.

    Raises:
        ConfigError: None of the files can be read, or two would give masks of one name.
    """
    names, targets = inference.require_class_names(), _targets(files)
    folder = open_run_folder(cfg, is_latest=False)
    (folder / "masks").mkdir(exist_ok=True)
    shares: dict[str, list[float]] = {}
    skipped: dict[str, str] = {}
    for path in track(files, "predict", console=console):
        try:
            mask = inference.segment(path)
        except ConfigError as error:
            skipped[path] = str(error)
            console.print(f"skipped: {printable(error)}", soft_wrap=True)
            continue
        write_mask(mask, path, folder / "masks" / targets[path], len(names))
        if len(shares) < cfg.num_pictures:
            _write_overlay(inference, path, mask, folder / "overlays")
        shares[path] = (mask.flatten().bincount(minlength=len(names)) / mask.numel()).tolist()
    write_json({"images": len(shares), "skipped": skipped}, folder / "summary.json")
    if not shares:
        raise ConfigError(f"images={cfg.images}: none of the files can be read; see above")
    with (folder / "masks.csv").open("w", newline="", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", *names])
        for path, values in shares.items():
            table.writerow([path, targets[path], *(f"{value:.6f}" for value in values)])
    _print(cfg.images, names, shares)
    noun = inference.preparation.kind.noun
    console.print(f"{counted(len(shares), noun)} segmented, {len(skipped)} skipped")
    console.print(f"run folder: {short_path(folder)}", soft_wrap=True)


def write_mask(mask: Tensor, source: str, target: Path, num_classes: int) -> None:
    """Write a mask (H, W) as a PNG with a palette, a volume's (D, H, W) as its source is: NIfTI or .npy.

    A NIfTI has the orientation and the affine of its source.
    """
    values = mask.numpy().astype(np.uint8 if num_classes <= 256 else np.uint16)
    if target.name.endswith((".nii", ".nii.gz")):
        _write_nifti(values, source, target)
    elif target.suffix == ".npy":
        np.save(target, values)
    elif num_classes > 256:  # more than a palette has
        Image.fromarray(values).save(target)
    else:
        image = Image.fromarray(values, "P")
        image.putpalette(mask_colors(num_classes).flatten().tolist())
        image.save(target)


def _write_nifti(values: np.ndarray, source: str, target: Path) -> None:
    import nibabel  # which has read the source

    from mambavision_lab.data.read_volume import read_volume

    original: Any = nibabel.load(source)
    values = values.transpose(2, 1, 0)
    if read_volume(source).spacing is not None:  # then it was turned to the canonical orientation
        own = nibabel.io_orientation(original.affine)
        canonical = nibabel.orientations.axcodes2ornt("RAS")
        turn = nibabel.orientations.ornt_transform(canonical, own)
        values = nibabel.orientations.apply_orientation(values, turn)
    header = original.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    nibabel.save(type(original)(values, original.affine, header), target)


def _targets(files: list[str]) -> dict[str, str]:
    """Name the mask of each file: as the file, with the suffix of a mask."""
    targets = {path: stem_of(Path(path)) + _suffix(path) for path in files}
    owners: dict[str, str] = {}
    for path, target in targets.items():
        if (other := owners.setdefault(target.lower(), path)) != path:
            raise ConfigError(
                f"images: {other} and {path} would both be written as {target}; predict them apart"
            )
    return targets


def _suffix(path: str) -> str:
    name = path.lower()
    if name.endswith((".nii", ".nii.gz")):
        return ".nii.gz"
    return ".npy" if name.endswith(".npy") or Path(path).is_dir() else ".png"


def _write_overlay(inference: MambaVisionInference, path: str, mask: Tensor, folder: Path) -> None:
    read = inference.preparation.read
    assert read is not None
    folder.mkdir(exist_ok=True)
    pixels = side_by_side(read(path)).permute(1, 2, 0).numpy()
    plane = side_by_side(mask[None])[0].numpy()
    drawn = mask_overlay(pixels, plane, len(inference.require_class_names()))
    Image.fromarray(drawn).save(folder / f"{stem_of(Path(path))}.png")


def _print(images: str, names: list[str], shares: dict[str, list[float]]) -> None:
    rest = f" (first {_NUM_SHOWN} of {len(shares)})" if len(shares) > _NUM_SHOWN else ""
    table = Table("image", *map(printable, names), title=f"share of each class{rest}")
    for path, values in [*shares.items()][:_NUM_SHOWN]:
        table.add_row(printable(name_below(images, path)), *(f"{value:.1%}" for value in values))
    console.print(table)
