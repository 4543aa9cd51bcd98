import numpy as np
import pytest

from mambavision_lab.data.splits import split_by_class


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("seed", [0, 5])
def test_split_by_class_takes_the_fraction_of_each_class(fraction, seed):
    labels = np.random.default_rng(1).permutation(np.repeat([3, 0, 7, 9], [40, 2, 25, 1]))
    kept, held_out = split_by_class(labels, fraction, seed)
    assert sorted([*kept, *held_out]) == list(range(68))
    for label, num in ((3, 40), (0, 2), (7, 25)):
        wanted = min(max(1, round(fraction * num)), num - 1)
        assert (labels[held_out] == label).sum() == wanted
    assert (labels[kept] == 9).sum() == 1  # a lone image is trained on
    for part, again in zip((kept, held_out), split_by_class(labels, fraction, seed), strict=True):
        np.testing.assert_array_equal(part, again)


def test_split_by_class_depends_on_its_seed():
    labels = np.arange(100) % 2
    assert set(split_by_class(labels, 0.2, 0)[1]) != set(split_by_class(labels, 0.2, 1)[1])
