import pytest
from composing import check

from mambavision_lab.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=synthetic_clips"], r"model.dims=2: .* such as mambavision_nano_3d"),
        (["model=mambavision_nano_3d"], r"model.dims=3: .* choose a model without _3d"),
        (["data=synthetic_volumes", "data.slices=middle", "model.dims=3"], r"the data are images"),
    ],
)
def test_networks_and_data_of_other_axes_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check("train", *arguments)


def test_networks_and_data_of_the_same_axes_are_taken():
    check("train", "data=synthetic_volumes", "model=mambavision_micro", "model.dims=3")
    check("train", "data=synthetic_volumes", "data.slices=middle")
