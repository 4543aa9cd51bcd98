"""Small volumes and clips in files, as other programs write them."""

from pathlib import Path

import av
import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def ramp(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    """Numbers from 0 on, in a volume (D, H, W)."""
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


def write_nifti(path: Path, volume: np.ndarray, spacing=(1.0, 1.0, 1.0), flip=(1, 1, 1)) -> Path:
    """Write a volume (D, H, W) with millimetres between its slices, rows and columns."""
    affine = np.diag([*(s * f for s, f in zip(spacing[::-1], flip[::-1], strict=True)), 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume.T, affine), path)
    return path


def write_series(folder: Path, volume: np.ndarray, gap=2.0, rows=0.5, uid=None, **changed) -> Path:
    """Write a volume (D, H, W) as a DICOM series whose files are not in the order of its slices."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    for k, pixels in enumerate(volume):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
            ExplicitVRLittleEndian,
            CTImageStorage,
        )
        meta.MediaStorageSOPInstanceUID = generate_uid()
        part = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        part.SOPClassUID, part.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        part.SeriesInstanceUID, part.InstanceNumber = uid, k + 1
        part.ImagePositionPatient, part.ImageOrientationPatient = (
            [0, 0, k * gap],
            [1, 0, 0, 0, 1, 0],
        )
        part.PixelSpacing = [rows, rows]
        part.Rows, part.Columns = pixels.shape
        part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
        part.BitsAllocated, part.BitsStored, part.HighBit = 16, 16, 15
        part.PixelRepresentation = 0
        part.PixelData = pixels.astype(np.uint16).tobytes()
        for name, value in changed.items():
            if value is None:
                delattr(part, name)
            else:
                setattr(part, name, value)
        pydicom.dcmwrite(folder / f"{(7 * k) % 19:03}.dcm", part, enforce_file_format=True)
    return folder


def write_video(path: Path, num_frames: int, size: int = 32, step: int = 8) -> Path:
    """Write a video whose frame k has the grey level k * step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 5
        for k in range(num_frames):
            pixels = np.full((size, size, 3), k * step, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                video.mux(packet)
        for packet in stream.encode():
            video.mux(packet)
    return path
