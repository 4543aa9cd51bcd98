import pytest
import torch
from tolerances import assert_close

from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.volume import VolumeAugment
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.errors import ConfigError


def volumes(num=24, sides=(6, 8, 8)):
    return torch.rand(num, 2, *sides, generator=torch.Generator().manual_seed(0))


def draws(num=24, seed=1, epoch=0):
    return Draws(seed, epoch, torch.arange(num))


def test_flips_and_quarter_turns_permute_the_voxels_exactly():
    given = volumes()
    augment = VolumeAugment(
        horizontal_flip=True, vertical_flip=True, depth_flip=True, quarter_turns=True
    )
    found = augment(given, draws())
    kinds = set()
    for before, after in zip(given, found, strict=True):
        matches = [
            (k, flips)
            for k in range(4)
            for flips in ((), (-1,), (-3,), (-1, -3))
            if torch.allclose(before.rot90(k, (-2, -1)).flip(flips), after, atol=1e-5)
        ]
        assert len(matches) == 1
        kinds.add(matches[0])
    assert len(kinds) >= 8  # of 16


def test_shift_moves_along_each_axis_by_whole_voxels():
    given = volumes(sides=(10, 10, 10))
    found = VolumeAugment(shift=0.1)(given, draws())
    padded = torch.nn.functional.pad(given, [1] * 6)
    for wide, after in zip(padded, found, strict=True):
        places = [
            (d, h, w)
            for d in range(3)
            for h in range(3)
            for w in range(3)
            if torch.allclose(wide[:, d : d + 10, h : h + 10, w : w + 10], after, atol=1e-5)
        ]
        assert len(places) == 1


def test_crop_enlarges_a_part_that_lies_within():
    axes = torch.linspace(-1 + 1 / 16, 1 - 1 / 16, 16)
    given = (axes.expand(8, 1, 16, 16, 16) + 1) / 2  # grows along the width
    found = VolumeAugment(crop_share=0.5)(given, draws(8))
    slopes = found[:, 0, 8, 8, 9] - found[:, 0, 8, 8, 8]
    assert (slopes >= 0.5 / 16 - 1e-5).all()
    assert (slopes < 1 / 16).all()
    inside = found[:, 0, :, :, 1:-1]
    assert_close(inside, inside[:, :1, :1].expand_as(inside), torch.float32)  # no zeros came in


def test_tilt_keeps_distances_in_voxels():
    given = torch.zeros(1, 1, 9, 33, 33)
    given[:, :, 4, 16, 16] = 1
    given[:, :, 4, 16, 24] = 1  # eight voxels along the width
    found = VolumeAugment(tilt_deg=20)(given.expand(16, -1, -1, -1, -1).contiguous(), draws(16))
    for volume in found[:, 0]:
        where = (volume > 0.2 * volume.max()).nonzero().float()
        far = where[where[:, 2] > 20].mean(0) if (where[:, 2] > 20).any() else None
        assert far is not None
        assert (far - torch.tensor([4.0, 16, 16])).norm() == pytest.approx(8, abs=1)


def test_intensity_keeps_the_range_and_follows_from_seed_epoch_and_index():
    augment = VolumeAugment(brightness=0.3, contrast=0.3, gamma=0.5, noise=0.2, tilt_deg=10)
    given = volumes()
    first, again, other = (augment(given, draws(epoch=e)) for e in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.min(), first.max()) >= (0, 0)
    assert first.max() <= 1
    some = augment(given[5:9], Draws(1, 0, torch.arange(5, 9)))
    assert_close(some, first[5:9], torch.float32)  # whatever else is in the batch


def test_configs_turn_no_time_around_and_mirror_where_the_class_is_kept():
    clips = create_datamodule("synthetic_clips", augment="clips").augment
    assert clips.flips == (False, False, False)
    kept = create_datamodule("synthetic_volumes", augment="volumes", flip_keeps_class=True).augment
    assert kept.flips == (True, True, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizontal_flip": "alternating"}, "augment.horizontal_flip: is for images"),
        ({"policy": torch.nn.Identity()}, "augment.policy: is for images"),
        ({"tilt_deg": 200}, "augment.tilt_deg=200 must lie"),
        ({"crop_share": 0}, "augment.crop_share=0 must lie"),
        ({"gamma": 2}, "augment.gamma=2 must lie"),
        ({"noise": -1}, "augment.noise=-1 must lie"),
        ({"shift": 2}, "augment.shift=2 must lie"),
    ],
)
def test_impossible_settings_of_volumes_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        VolumeAugment(**options)
