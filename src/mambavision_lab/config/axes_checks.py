"""Check that the network takes what the data give: images, or volumes and clips."""

from typing import Any

from mambavision_lab.errors import ConfigError

_OURS = "mambavision_lab."  # the axes of other data modules are not known


def check_axes(data: dict[Any, Any], model: dict[Any, Any]) -> None:
    """Compare the axes of the data with those of the network.

    Raises:
        ConfigError: They differ.
    """
    if not str(data.get("_target_")).startswith(_OURS):
        return
    has_volumes = "num_slices" in data and data.get("slices") != "middle"
    dims = model.get("dims", 2)
    if has_volumes and dims == 2:
        raise ConfigError(
            f"model.dims={dims}: takes images, and the data are volumes or clips; choose a model such as "
            "mambavision_nano_3d, or data.slices=middle"
        )
    if dims == 3 and not has_volumes:
        raise ConfigError(
            f"model.dims={dims}: takes volumes or clips, and the data are images; choose a model without "
            "_3d, or data such as synthetic_volumes"
        )
