"""Check what is saved beside a network's weights, which a damaged or foreign file may hold in other forms."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mambavision_lab.errors import ConfigError

_NUMBER = (int, float)
# Key -> types of its value, and what messages call them.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "architecture": ((dict,), "options of a network"),
    "preprocessing": ((dict,), "settings of images"),
    "class_names": ((list, tuple), "a list of names"),
    "is_multilabel": ((bool,), "true or false"),
    "has_masks": ((bool,), "true or false"),
    "include_background": ((bool,), "true or false"),
    "name": ((str,), "text"),
    "metrics": ((dict,), "metrics by name"),
    "input": ((dict,), "the size of images"),
}
_OF_IMAGES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("image_size", "in_chans", "num_slices", "frame_stride"), ((int,), "a number")),
    **dict.fromkeys(
        ("mean", "std", "value_range", "background", "spacing"),
        ((list, tuple), "a list of numbers"),
    ),
    "crop_fraction": (_NUMBER, "a number"),
    "keeps_aspect": ((bool,), "true or false"),
    **dict.fromkeys(("slices", "fit"), ((str,), "text")),
}
# Key -> what its value must be besides its type, and the words for that.
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("image_size", "in_chans", "num_slices", "frame_stride"),
        (lambda value: value >= 1, "a number from 1"),
    ),
    "mean": (lambda values: all(map(math.isfinite, values)), "a list of numbers"),
    "std": (lambda values: all(0 < v < math.inf for v in values), "a list of numbers above 0"),
    "value_range": (
        lambda values: len(values) == 2 and values[0] < values[1],
        "two numbers, of black and the larger one of white",
    ),
    "background": (lambda values: len(values) == 3, "three numbers, red, green and blue"),
    "crop_fraction": (lambda value: 0 < value <= 1, "a share above 0, at most 1"),
}
_LISTS = {
    "class_names": (str,),
    **dict.fromkeys(("mean", "std", "value_range", "background", "spacing"), _NUMBER),
}


def check_description(description: Any, path: Path) -> None:
    """Check the types and ranges of a description's values; keys may be missing.

    Raises:
        ConfigError: One is of another type, or out of its range, or it is no description.
    """
    if not isinstance(description, Mapping):
        raise ConfigError(f"{path}: holds no description; train or export it again")
    _check(description, _KINDS, "", path)
    _check(description.get("preprocessing") or {}, _OF_IMAGES, "preprocessing.", path)


def _check(
    values: Mapping[str, Any],
    kinds: dict[str, tuple[tuple[type, ...], str]],
    prefix: str,
    path: Path,
) -> None:
    for key, (types, wanted) in kinds.items():
        if (value := values.get(key)) is None:
            continue
        is_right = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        if is_right and key in _LISTS:
            is_right = all(isinstance(item, _LISTS[key]) for item in value)
        if is_right and key in _RANGES:
            is_allowed, wanted = _RANGES[key]
            is_right = is_allowed(value)
        if not is_right:
            raise ConfigError(
                f"{path}: its {prefix}{key} is {str(value)[:60]!r}, and {wanted} was wanted; train or export "
                "it again"
            )
