"""Durations in configs: DD:HH:MM:SS as Lightning writes them, or units with numbers."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mambavision_lab.config.signatures import read_signature
from mambavision_lab.errors import ConfigError

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")


def is_duration(annotation: str | None) -> bool:
    """Return whether a parameter with this annotation takes a duration."""
    return "timedelta" in (annotation or "")


def check_duration(path: str, value: Any) -> None:
    """Refuse a text or a dict that is no duration; other values are none either, and are let pass.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(value, str):
        is_right = _parse(value) is not None
    elif isinstance(value, dict) and "_target_" not in value:
        numbers = [x for x in value.values() if isinstance(x, int | float) and x >= 0]
        is_right = set(value) <= set(_UNITS) and len(numbers) == len(value) > 0
    else:
        return
    if not is_right:
        raise ConfigError(
            f"{path}={value}: wanted a duration, DD:HH:MM:SS, such as 00:12:00:00 for twelve hours"
        )


def find_durations(node: Mapping[Any, Any] | None) -> dict[str, timedelta]:
    """Read the durations in a node that are written as text, by the names of the target's parameters."""
    if node is None:
        return {}
    signature = read_signature(node["_target_"])
    known = signature.parameters if signature is not None else {}
    texts = {
        str(k): v for k, v in node.items() if isinstance(v, str) and is_duration(known.get(str(k)))
    }
    return {key: found for key, text in texts.items() if (found := _parse(text)) is not None}


def _parse(text: str) -> timedelta | None:
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = map(int, match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
