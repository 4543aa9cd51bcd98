"""Find the settings of a run that differ from the defaults, and store them in its folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambavision_lab.config.overrides import key_of
from mambavision_lab.files import write_atomically

FILE = "differences.json"
Difference = tuple[str, str, str]  # setting, default, value in the run
_NOT_SETTINGS = ("paths", "hydra", "name")
_NOTHING: tuple[Any, ...] = ("-", {}, None)


def find_differences(
    defaults: Mapping[str, Any], composed: Mapping[str, Any], overrides: Sequence[str]
) -> list[Difference]:
    """Find the settings that are not those of the command without overrides.

    Args:
        defaults: The config composed without overrides; plain values, interpolations unresolved.
        composed: The run's config, likewise.
        overrides: The run's overrides, such as "seed=7".

    Returns:
        (setting, default, value in the run), sorted; "-" where the setting does not exist.
    """
    before, after = flatten(defaults), flatten(composed)
    given = {key_of(override) for override in overrides}
    changed = []
    for key in sorted(before.keys() | after.keys()):
        if key.partition(".")[0] in _NOT_SETTINGS:
            continue
        default, here = before.get(key, "-"), after.get(key, "-")
        if str(default).startswith("${") and key not in given:
            continue  # follows another setting
        if default == "-" and (str(here).startswith("${") or here == ""):
            continue  # likewise, in a part that the defaults do not have
        if default == here or (default in _NOTHING and here in _NOTHING):
            continue
        if key.endswith("._target_"):
            default, here = (str(name).rpartition(".")[2] for name in (default, here))
        changed.append((key, setting_text(default), setting_text(here)))
    return changed


def write_differences(differences: Sequence[Difference], run_folder: Path) -> None:
    """Write the differences into a run folder, as `differences.json`."""
    write_atomically(run_folder / FILE, json.dumps(differences, indent=2) + "\n")


def read_differences(run_folder: Path) -> list[Difference] | None:
    """Read the differences stored in a run folder; None where an earlier version made it.

    Raises:
        ValueError: The file is damaged.
    """
    path = run_folder / FILE
    if not path.is_file():
        return None
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(r, list) and len(r) == 3 for r in rows):
        raise ValueError(f"{FILE} is damaged (wanted a list of [setting, default, value])")
    return [(str(key), str(default), str(here)) for key, default, here in rows]


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one: {"a": {"b": 1}} -> {"a.b": 1}."""
    if not isinstance(node, Mapping) or not node:
        return {path: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{path}.{key}" if path else str(key))
    return flat


def setting_text(value: Any) -> str:
    """Format the value of a setting."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
