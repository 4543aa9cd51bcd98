import pytest
import torch
from tolerances import assert_close

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.errors import ConfigError

EVERYTHING = {
    "horizontal_flip": True,
    "shift": 0.1,
    "rotation_deg": 10.0,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
}


def images(num=64, in_chans=3, side=12):
    return torch.rand(num, in_chans, side, side)


def is_close(a, b):
    return (a - b).abs().amax((1, 2, 3)) < 1e-4


def test_augment_does_nothing_when_all_is_off():
    batch = images()
    assert torch.equal(Augment()(batch), batch)
    assert torch.equal(Augment(crop_scale=[0.3, 1.0])(batch), batch)  # for files, at decoding


def test_augment_flip_mirrors_about_half_of_the_images():
    batch = images(400)
    out = Augment(horizontal_flip=True)(batch)
    same, mirrored = is_close(out, batch), is_close(out, batch.flip(-1))
    assert torch.all(same ^ mirrored)
    assert 150 < mirrored.sum() < 250  # 200 +- 5 standard deviations


def test_augment_shift_moves_by_whole_pixels_and_lets_zeros_in():
    batch = images(200)
    out = Augment(shift=0.17)(batch)  # at most 2 of 12 pixels
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2))
    moves = {(y, x): padded[:, :, y : y + 12, x : x + 12] for y in range(5) for x in range(5)}
    fits = torch.stack([is_close(out, moved) for moved in moves.values()])
    assert torch.all(fits.sum(0) == 1)
    assert torch.all(fits.sum(1) > 0)  # each of the 25 moves occurs among 200


def test_augment_rotation_stays_within_its_angle_and_about_the_centre():
    batch = torch.zeros(200, 1, 33, 33)
    batch[:, :, 16, 31] = 1  # 15 pixels right of the centre
    out = Augment(rotation_deg=20.0)(batch)
    ys, xs = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    total = out.sum((1, 2, 3))
    y, x = ((out[:, 0] * axis).sum((1, 2)) / total for axis in (ys, xs))
    angles = torch.atan2(y, x).rad2deg()
    assert (torch.hypot(x, y) - 15).abs().max() < 0.5
    assert angles.abs().max() < 21
    assert angles.min() < -15
    assert angles.max() > 15


@pytest.mark.parametrize("in_chans", [1, 3])
def test_augment_recolours_by_its_formulas(in_chans):
    batch = 0.4 + 0.2 * images(32, in_chans)  # far from 0 and 1, where values are clipped
    brighter = Augment(brightness=0.2)(batch)
    factor = (brighter / batch).flatten(1)
    assert_close(factor, factor[:, :1].expand_as(factor), torch.float32)
    assert factor.min() >= 0.8 - 1e-4
    assert factor.max() <= 1.2 + 1e-4
    mean = batch.mean((1, 2, 3), keepdim=True)
    factor = (Augment(contrast=0.2)(batch) - mean).flatten(1).norm(dim=1) / (batch - mean).flatten(
        1
    ).norm(dim=1)
    assert_close(Augment(contrast=0.2)(batch).mean((1, 2, 3)), mean.flatten(), torch.float32)
    assert factor.min() >= 0.8 - 1e-4
    assert factor.max() <= 1.2 + 1e-4
    coloured = Augment(saturation=0.5)(batch)
    assert_close(coloured.mean(1), batch.mean(1), torch.float32)
    assert torch.equal(coloured, batch) == (in_chans == 1)


@pytest.mark.parametrize("in_chans", [1, 3])
def test_augment_keeps_shape_and_range(in_chans):
    strong = dict.fromkeys(("brightness", "contrast", "saturation"), 0.9)
    batch = images(in_chans=in_chans)
    out = Augment(**(EVERYTHING | strong))(batch)
    assert out.shape == batch.shape
    assert out.dtype == batch.dtype
    assert out.min() >= 0
    assert out.max() <= 1
    assert out.std() > 0.05


@pytest.mark.parametrize("setting", EVERYTHING)
def test_augment_gives_every_image_its_own_parameters(setting):
    batch = images(1).expand(64, -1, -1, -1)
    out = Augment(**{setting: EVERYTHING[setting]})(batch)
    num_distinct = len({image.numpy().tobytes() for image in out})
    wanted = {"horizontal_flip": 2, "shift": 9}  # 3 x 3 moves; of the others all differ
    assert num_distinct == wanted.get(setting, 64)


def test_augment_is_fixed_by_torchs_seed():
    batch, augment = images(), Augment(**EVERYTHING)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(augment(batch))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_augment_alternating_flip_shows_both_sides_in_two_epochs():
    batch, augment = images(200), Augment(horizontal_flip="alternating")
    first, second, third = (
        augment(batch, Draws(0, epoch, torch.arange(200))) for epoch in range(3)
    )
    assert torch.all(is_close(first, batch) ^ is_close(first, batch.flip(-1)))
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(third, first)
    assert 65 < is_close(first, batch).sum() < 135  # 100 +- 5 standard deviations


def test_augment_shift_can_mirror_the_image_at_its_border():
    batch = images(100)
    out = Augment(shift=0.17, padding="reflect")(batch)
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2), "reflect")
    moves = [padded[:, :, y : y + 12, x : x + 12] for y in range(5) for x in range(5)]
    assert torch.all(torch.stack([is_close(out, moved) for moved in moves]).any(0))


@pytest.mark.parametrize("side", [1, 2, 5])
def test_augment_shift_mirrors_as_often_as_a_shift_by_a_whole_side_takes(side):
    batch = images(50, side=side)
    out = Augment(shift=1.0, padding="reflect")(batch)
    there_and_back = torch.cat([batch, batch.flip(-1)[..., 1:-1]], dim=-1)
    both = torch.cat([there_and_back, there_and_back.flip(-2)[..., 1:-1, :]], dim=-2)
    moves = [both.roll((y, x), (-2, -1)) for y in range(2 * side) for x in range(2 * side)]
    fits = torch.stack([is_close(out, move[..., :side, :side]) for move in moves])
    assert torch.all(fits.any(0))


def test_augment_erases_a_rectangle_of_noise_in_its_share_of_the_images():
    batch = images(400, side=16)
    out = Augment(erasing=0.25)(batch)
    changed = (out != batch).any(1)
    counts = changed.flatten(1).sum(1)
    assert 57 < (counts > 0).sum() < 143  # 100 +- 5 standard deviations
    for mask in changed[counts > 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert mask[rows][:, columns].float().mean() > 0.95  # clipped noise may equal the pixel
        assert 0 < rows.sum() * columns.sum() <= 16 * 16 * 0.45
        for line in (rows, columns):
            assert (line.int().diff() != 0).sum() <= 2  # one run


def test_augment_erases_with_the_mean_and_spread_of_the_image_and_noise_of_its_own():
    means, spreads = torch.tensor([0.3, 0.5, 0.6]), torch.tensor([0.02, 0.05, 0.08])
    batch = means[:, None, None, None] + spreads[:, None, None, None] * torch.randn(3, 3, 64, 64)
    out = Augment(erasing=1.0)(batch)
    parts = [new[new != old] for new, old in zip(out, batch, strict=True)]
    for part, mean, spread in zip(parts, means, spreads, strict=True):
        assert abs(part.mean() - mean) < 0.6 * spread
        assert 0.7 * spread < part.std() < 1.3 * spread
    fewest = min(map(len, parts))
    noise = torch.stack([(part[:fewest] - part.mean()) / part.std() for part in parts])
    assert noise.corrcoef().sub(torch.eye(3)).abs().max() < 0.5


def test_augment_leaves_the_batch_that_it_is_given_alone():
    batch = images(8)
    before = batch.clone()
    Augment(**EVERYTHING, erasing=1.0)(batch)
    for setting in ({"erasing": 1.0}, {"horizontal_flip": True}, {"shift": 0.2}):
        Augment(**setting)(batch)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("settings", [EVERYTHING, {"horizontal_flip": True, "erasing": 0.5}])
def test_augment_gives_the_same_where_it_may_change_what_it_is_given(settings):
    batch, augment = images(8), Augment(**settings)
    wanted = augment(batch, Draws(1, 0, torch.arange(8)))
    found = augment(batch, Draws(1, 0, torch.arange(8)), inplace=True)
    assert torch.equal(found, wanted)


def test_augment_gives_an_image_the_same_pixels_in_any_batch():
    batch, augment = images(32), Augment(**EVERYTHING, erasing=0.5)
    some = torch.tensor([30, 3, 17])
    whole = augment(batch, Draws(5, 2, torch.arange(32)))
    assert torch.equal(augment(batch[some], Draws(5, 2, some)), whole[some])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizontal_flip": "sometimes"}, "choose true, false or alternating"),
        ({"padding": "edge"}, "augment.padding=edge is unknown; choose zeros or reflect"),
        ({"erasing": 1.2}, "augment.erasing=1.2 must lie between 0 and 1"),
        ({"crop_scale": [0.5]}, r"augment.crop_scale=\[0.5\]: wanted \[LOW,HIGH\]"),
        ({"crop_scale": [0.5, 0.2]}, "0 < LOW <= HIGH <= 1"),
        ({"crop_interpolation": "x"}, "crop_interpolation=x is unknown; choose bilinear, bicubic"),
        ({"crop_scale": [0, 1]}, "0 < LOW <= HIGH <= 1"),
    ],
)
def test_augment_refuses_settings_in_one_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        Augment(**settings)
