"""Your own clips: video files or folders of frames; by class folders, or in a CSV."""

from typing import Any, ClassVar

from mambavision_lab.data.fit_clip import FitClip
from mambavision_lab.data.folders import CLIPS, FileKind
from mambavision_lab.data.image_files import CROP_FRACTION
from mambavision_lab.data.random_crop import RandomCrop
from mambavision_lab.data.settings import check_crop_fraction, require_positive
from mambavision_lab.data.volume_files import Read, VolumeFilesDataModule


class VideoFolderDataModule(VolumeFilesDataModule):
    """Clips in one folder per class, or in a CSV; of each num_slices frames are sampled.

    Args:
        frame_stride: One frame of so many is taken; in training from a random place of the clip on, else
            from its middle.
        crop_fraction: Share of the frames' shorter side that evaluation looks at, above 0 and at most 1.

    Other settings as in `VolumeFilesDataModule`. The augmentation's crop_scale is that of a random crop, of
    all frames alike.

    Raises:
        ConfigError: A setting is impossible.
    """

    kind: ClassVar[FileKind] = CLIPS
    supports_any_in_chans: ClassVar[bool] = False
    keeps_aspect: ClassVar[bool] = True

    def __init__(
        self, *, frame_stride: int = 1, crop_fraction: float = CROP_FRACTION, **settings: Any
    ) -> None:
        super().__init__(**settings)
        require_positive(frame_stride=frame_stride)
        check_crop_fraction(crop_fraction)
        self.frame_stride, self.crop_fraction = frame_stride, crop_fraction

    def reader(self, *, is_training: bool) -> Read:
        """Return what reads a clip."""
        scale = getattr(self.augment, "crop_scale", None)
        mode = getattr(self.augment, "crop_interpolation", "bilinear")
        crop = RandomCrop(self.image_size, scale, mode) if scale and is_training else None
        return FitClip(
            self.num_slices,
            self.frame_stride,
            self.image_size,
            self.in_chans,
            is_training,
            crop,
            self.crop_fraction,
        )

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        own = {"frame_stride": self.frame_stride, "crop_fraction": self.crop_fraction}
        return super().metadata() | own
