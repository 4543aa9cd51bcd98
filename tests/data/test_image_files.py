import pytest
import torch

from mambavision_lab.data.image_files import evaluation_transform


@pytest.mark.parametrize(("crop_fraction", "margin"), [(0.875, 1), (0.7, 3), (1.0, 0)])
def test_evaluation_takes_a_share_of_the_shorter_side(crop_fraction, margin):
    image = torch.randint(256, (3, 14 + 2 * margin, 14 + 2 * margin), dtype=torch.uint8)
    found = evaluation_transform(14, crop_fraction)(image)
    assert found.equal(image[:, margin : 14 + margin, margin : 14 + margin])


@pytest.mark.parametrize("is_wide", [True, False])
def test_evaluation_of_a_strip_is_that_of_its_middle(is_wide):
    strip = (torch.arange(20_000) % 251).byte().expand(3, 2, 20_000)
    middle = strip[:, :, 9_996:10_004]
    if not is_wide:
        strip, middle = strip.mT, middle.mT
    fit = evaluation_transform(14)
    assert fit(strip).equal(fit(middle))
    cut = fit.transforms[0](strip)  # before it is enlarged, eightfold
    assert sorted(cut.shape[1:]) == [2, 8]
