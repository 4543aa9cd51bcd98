"""Your own volumes: NIfTI files, NumPy arrays or folders of DICOM slices; by class folders, or in a CSV."""

from collections.abc import Sequence
from typing import Any, ClassVar

from mambavision_lab.data.fit_volume import FitVolume
from mambavision_lab.data.folders import VOLUMES, FileKind
from mambavision_lab.data.value_range import ValueRange
from mambavision_lab.data.volume_files import Read, VolumeFilesDataModule
from mambavision_lab.errors import ConfigError


class VolumeFolderDataModule(VolumeFilesDataModule):
    """Volumes in one folder per class, or in a CSV; resized as a whole, or resampled to a spacing.

    Args:
        spacing: Millimetres between slices, rows and columns, or one number for all, to which each volume is
            resampled; its centre of num_slices x image_size x image_size is then taken, or zeros are added.
            None resizes the whole of each volume.
        value_range: [LOW, HIGH], the values of black and white, such as Hounsfield units; None for those of
            each volume, without outliers.

    Other settings as in `VolumeFilesDataModule`.

    Raises:
        ConfigError: A setting is impossible.
    """

    kind: ClassVar[FileKind] = VOLUMES

    def __init__(
        self,
        *,
        spacing: float | Sequence[float] | None = None,
        value_range: Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.spacing = None if spacing is None else _as_spacing(spacing)
        self.value_range = None if value_range is None else _as_range(value_range)

    def reader(self, *, is_training: bool) -> Read:
        """Return what reads a volume."""
        return FitVolume(
            self.num_slices, self.image_size, self.in_chans, self.spacing, self.value_range
        )

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        spacing = None if self.spacing is None else list(self.spacing)
        value_range = None if self.value_range is None else list(self.value_range)
        return super().metadata() | {"spacing": spacing, "value_range": value_range}


def _as_spacing(given: float | Sequence[float]) -> tuple[float, float, float]:
    sizes: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * 3
    if len(sizes) != 3 or not all(_is_number(size) and 0 < size < float("inf") for size in sizes):
        raise ConfigError(
            f"data.spacing={given}: wanted millimetres above 0, one number or [SLICES,ROWS,COLUMNS], or null"
        )
    return float(sizes[0]), float(sizes[1]), float(sizes[2])


def _as_range(given: Sequence[float]) -> ValueRange:
    values = list(given) if isinstance(given, list | tuple) else []
    if len(values) != 2 or not all(map(_is_number, values)) or not values[0] < values[1]:
        raise ConfigError(f"data.value_range={given}: wanted [LOW,HIGH], or null")
    return float(values[0]), float(values[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
