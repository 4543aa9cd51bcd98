"""Read a volume from a NIfTI file, a NumPy array, or a folder with the slices of a DICOM series."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mambavision_lab.data.folders import VOLUMES, scan
from mambavision_lab.errors import ConfigError, missing_extra, reason

Spacing = tuple[float, float, float]  # millimetres between slices, rows and columns


@dataclass(frozen=True)
class Volume:
    """A volume as its file has it.

    Attributes:
        values: (C, D, H, W), of any type of numbers.
        spacing: Of its slices, rows and columns; None where the file does not tell.
    """

    values: np.ndarray
    spacing: Spacing | None = None


def read_volume(path: str | Path) -> Volume:
    """Read a volume, with its axial slices along D where the file tells its orientation.

    Args:
        path: A file .nii, .nii.gz or .npy, (D, H, W) or (C, D, H, W), or a folder of DICOM files.

    Raises:
        ConfigError: It cannot be read, or is no volume; or a package is missing.
    """
    place = Path(path)
    try:
        if place.is_dir():
            volume = _read_dicom(place)
        elif place.name.lower().endswith(".npy"):
            volume = Volume(np.load(place, allow_pickle=False))
        else:
            volume = _read_nifti(place)
    except ConfigError:
        raise
    except Exception as error:  # of all kinds, on damaged files
        raise ConfigError(f"{path}: cannot be read as a volume ({reason(error, 120)})") from error
    values = volume.values[None] if volume.values.ndim == 3 else volume.values
    if values.ndim != 4 or not values.size or values.dtype.kind not in "uifb":
        raise ConfigError(
            f"{path}: holds {volume.values.dtype} of shape {volume.values.shape}; wanted numbers "
            "(D, H, W), or with channels first"
        )
    return Volume(values, volume.spacing)


def _read_nifti(path: Path) -> Volume:
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise missing_extra("a volume in NIfTI", "nibabel", "volumes") from error
    image: Any = nibabel.load(path)
    shape = image.shape
    if len(shape) == 5 and shape[3] == 1:  # vectors, after an axis of time
        shape = (*shape[:3], shape[4])
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] > 4):
        raise ConfigError(
            f"{path}: has the shape {image.shape}; wanted one volume, of at most 4 channels"
        )
    with nibabel.openers.ImageOpener(
        str(path)
    ) as file:  # as it is: loading makes 1 of a spacing of 0
        header = type(image.header).from_fileobj(file, check=False)
    is_placed = header["sform_code"] > 0 or (header["pixdim"][1:4] > 0).all()
    spacing = None
    if is_placed and np.linalg.det(image.affine[:3, :3]) != 0:
        image = nibabel.as_closest_canonical(
            image
        )  # from left to right, back to front, feet to head
        spacing = _checked(nibabel.affines.voxel_sizes(image.affine)[::-1])
    values = np.asanyarray(image.dataobj).reshape(*image.shape[:3], -1)
    return Volume(values.transpose(3, 2, 1, 0), spacing)


def _read_dicom(folder: Path) -> Volume:
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise missing_extra("a volume in DICOM", "pydicom", "volumes") from error
    files = [entry.path for entry in scan(folder) if VOLUMES.is_part(entry.name)]
    slices = [pydicom.dcmread(file) for file in files]
    if len({str(part.get("SeriesInstanceUID")) for part in slices}) > 1:
        raise ConfigError(f"{folder}: holds slices of several series; wanted a folder for each")
    shapes = {(part.Rows, part.Columns): file for part, file in zip(slices, files, strict=True)}
    if len(shapes) > 1:
        (first, _), (other, file) = list(shapes.items())[:2]
        raise ConfigError(
            f"{file}: its slice has {other[0]} x {other[1]} pixels, others {first[0]} x {first[1]}; wanted "
            "slices of one size"
        )
    places = [_place(part) for part in slices]
    if None in places:  # then by number
        places = [float(part.get("InstanceNumber") or 0) for part in slices]
        gap = slices[0].get("SpacingBetweenSlices") or slices[0].get("SliceThickness")
    else:
        gap = _gap(sorted(places), folder)
    order = np.argsort(np.array(places, dtype=float), kind="stable")
    values = np.stack([_pixels(slices[k]) for k in order])
    if values.ndim == 4 and len(slices) == 1:  # one file of all slices
        values = values[0]
    rows, columns = slices[0].get("PixelSpacing") or (0, 0)
    return Volume(values, _checked((float(gap or 0), float(rows), float(columns))))


def _place(part: Any) -> float | None:
    """Return where along the normal of its plane a slice lies."""
    position, axes = part.get("ImagePositionPatient"), part.get("ImageOrientationPatient")
    if position is None or axes is None:
        return None
    normal = np.cross(np.array(axes[:3], float), np.array(axes[3:], float))
    return float(normal @ np.array(position, float))


def _gap(places: list[Any], folder: Path) -> float:
    """Return the distance between slices.

    Raises:
        ConfigError: One is missing, or there twice.
    """
    gaps = np.diff(places)
    if len(gaps) == 0:
        return 0.0
    gap = float(np.median(gaps))
    if np.abs(gaps - gap).max() > 0.1 * gap:
        raise ConfigError(
            f"{folder}: its slices lie {gaps.min():.3g} to {gaps.max():.3g} mm apart; wanted equal gaps: "
            "is one missing, or there twice?"
        )
    return gap


def _pixels(part: Any) -> np.ndarray:
    slope, intercept = float(part.get("RescaleSlope", 1)), float(part.get("RescaleIntercept", 0))
    pixels = part.pixel_array
    return pixels if (slope, intercept) == (1, 0) else pixels.astype(np.float32) * slope + intercept


def _checked(spacing: Sequence[float]) -> Spacing | None:
    sizes = tuple(float(size) for size in spacing)
    is_known = all(np.isfinite(size) and size > 0 for size in sizes)
    return (sizes[0], sizes[1], sizes[2]) if is_known else None
