import numpy as np
import pytest
import torch
from PIL import Image
from volume_bytes import write_video

from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.fit_clip import FitClip
from mambavision_lab.data.read_clip import Clip


def write_frames(folder, num, size=16, step=8):
    """Frames whose names sort otherwise than their numbers; frame k has the grey level k * step."""
    folder.mkdir(parents=True)
    for k in range(num):
        Image.new("RGB", (size, size), (k * step,) * 3).save(folder / f"frame_{k}.png")
    return folder


def make(root, **options):
    settings = {"root": root, "num_slices": 4, "frame_stride": 2, "image_size": 16, "batch_size": 2}
    return create_datamodule("video_folder", **(settings | options))


def levels(frames):
    """The grey level of each frame of a clip (C, D, H, W)."""
    return frames.float().mean((0, 2, 3))


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_frames_of_a_video_are_those_that_were_written(tmp_path, suffix):
    clip = Clip(write_video(tmp_path / f"a.{suffix}", 20), 3)
    assert clip.num_frames == 20
    frames = clip.read([2, 7, 13, 19])
    assert frames.shape == (4, 3, 32, 32)
    found = frames.float().mean((1, 2, 3))
    assert (found - 8 * torch.tensor([2.0, 7, 13, 19])).abs().max() < 3
    assert Clip(tmp_path / f"a.{suffix}", 1).read([5]).shape == (1, 1, 32, 32)


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    folder = write_frames(tmp_path / "clip", 12)
    (folder / "notes.txt").write_text("no frame")
    fitted = FitClip(num_frames=3, frame_stride=4, image_size=8, in_chans=3)(folder)
    assert fitted.shape == (3, 3, 8, 8)
    assert levels(fitted).tolist() == [8, 40, 72]  # frames 1, 5, 9: the middle


def test_training_clips_begin_anywhere_by_seed_epoch_and_index(tmp_path):
    for name in ("x", "y"):
        for k in range(4):
            write_frames(tmp_path / name / f"clip{k}", 20, step=4)
    starts = []
    for workers in (0, 1):
        data = make(tmp_path, num_workers=workers, augment="none", val_fraction=0.25)
        data.seed_training(3)
        loader = data.train_dataloader()
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            images = torch.cat([images for images, *_ in loader])
            levels_ = images.float().mean((1, 3, 4))
            assert torch.equal(levels_[:, 1:] - levels_[:, :-1], torch.full((4, 3), 8.0))
            starts.append((levels_[:, 0] / 4).tolist())
    assert starts[:2] == starts[2:]
    assert starts[0] != starts[1]


def test_random_crops_take_the_same_part_of_all_frames(tmp_path):
    folder = tmp_path / "x" / "clip"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    for k in range(8):
        Image.fromarray(pixels).save(folder / f"{k}.png")
    for name in ("x/b", "x/c", "y/a", "y/b", "y/c"):
        write_frames(tmp_path / name, 8)
    data = make(tmp_path, augment="light")
    clip = data.reader(is_training=True)(str(folder))
    assert clip.shape == (3, 4, 16, 16)
    assert torch.equal(clip, clip[:, :1].expand_as(clip))
    assert not torch.equal(clip, data.reader(is_training=False)(str(folder)))
    assert data.metadata()["frame_stride"] == 2


def case_short(tmp_path):
    return write_video(tmp_path / "a.mp4", 6)


def case_truncated(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[:300])
    return path


def case_corrupt(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20, size=64)
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 8
    content[start : start + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(content)
    return path


def case_text(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    return tmp_path / "a.mp4"


def case_empty(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    return tmp_path / "a.mp4"


def case_sizes(tmp_path):
    folder = write_frames(tmp_path / "clip", 8)
    Image.new("RGB", (9, 16)).save(folder / "frame_4.png")
    return folder


def case_bad_frame(tmp_path):
    folder = write_frames(tmp_path / "clip", 8)
    (folder / "frame_4.png").write_bytes((folder / "frame_4.png").read_bytes()[:40])
    return folder


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            case_short,
            "has 6 frames, and 4 of them with a stride of 2 span 7; lower data.num_slices",
        ),
        (case_truncated, "a.mp4: cannot be read as a video ("),
        (case_corrupt, "a.mp4: cannot be read as a video ("),
        (case_text, "a.mp4: cannot be read as a video ("),
        (case_empty, "a.mp4: cannot be read as a video ("),
        (case_sizes, "frame_4.png: has 16 x 9 pixels, other frames of the clip 16 x 16"),
        (case_bad_frame, "frame_4.png: "),
        (lambda folder: folder / "gone.mp4", "gone.mp4: cannot be read as a video ("),
    ],
)
def test_clips_that_are_none_are_refused_in_one_line(tmp_path, refusal, case, message):
    path = case(tmp_path)
    found = refusal(lambda: FitClip(num_frames=4, frame_stride=2, image_size=8, in_chans=3)(path))
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_stride": 0}, "data.frame_stride=0 must be at least 1"),
        ({"crop_fraction": 0}, "data.crop_fraction=0: wanted a share"),
        ({"in_chans": 2}, "data.in_chans=2 is not possible; choose 1 or 3"),
    ],
)
def test_impossible_settings_of_video_folder_are_refused(tmp_path, refusal, options, message):
    for name in ("x", "y"):
        write_frames(tmp_path / name / "clip", 8)
    assert message in refusal(lambda: make(tmp_path, **options))
