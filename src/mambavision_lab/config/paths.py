"""Take literally what names a file or a folder: `data.root=my images, v=2` needs no quotes of Hydra's.

In Hydra's grammar `=`, `,`, `(`, `[`, `'`, `#` and letters beyond ASCII are syntax or errors, and `2012` is
a number. Overrides of the keys below are quoted when the command line is read; `null`, what is already
quoted, and references such as `${paths.data_dir}/x` keep their meaning. A `~` is the home folder.
"""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mambavision_lab.config.overrides import key_of, parse, quoted, quoted_once, to_type, unquoted
from mambavision_lab.errors import ConfigError

# Last parts of keys, such as data.root, callbacks.checkpoint.dirpath, hydra.run.dir.
_NAMES = {
    *("ckpt_path", "checkpoint_path", "pretrained", "resume", "root", "images", "output"),
    "model_file",
    *("root_dir", "log_dir", "data_dir", "output_dir", "default_root_dir", "save_dir", "dir"),
    *("dirpath", "folder", "file", "filename", "path"),
}
# Where runs lie and how a sweep is run: one value for all jobs.
UNSWEPT = ("sweep", "hydra", "paths")
_CONSTANTS = ("", "null", "true", "false")  # "true" for timm's pretrained weights


def names_path(key: str) -> bool:
    """Return whether the value of a key names a file or a folder."""
    return key.rpartition(".")[2] in _NAMES


def literal_path(override: str, *, is_multirun: bool) -> str:
    """Quote the value of an override that names a file or a folder, where Hydra would change it.

    In a sweep, commas separate values unless there is a file or folder of that whole name.

    Raises:
        ConfigError: It may be one path or several; the message says what to type.
    """
    key, equals, value = override.partition("=")
    if not equals or not names_path(key_of(override)) or value.lower() in _CONSTANTS:
        return override
    parsed = parse(override)
    if parsed is not None and value[0] in "'\"":
        return override
    is_there = exists(value)
    if is_multirun and not is_there and key_of(override).partition(".")[0] not in UNSWEPT:
        if parsed is not None and parsed.is_sweep_override():
            return override
        if parsed is None and "," in value:
            parts = [part.strip() for part in value.split(",")]
            raise ConfigError(
                f"{override}: nothing is there, and in a sweep commas separate values; for one path "
                f"type {to_type(key, value)}, for several {to_type(key, *parts)}"
            )
    return path_override(key, value, has_references=not is_there)


def path_override(key: str, path: object, *, has_references: bool = False) -> str:
    """Return an override that Hydra reads as this path; quoted only where it must be.

    Args:
        key: The override's key.
        path: The path.
        has_references: Whether `${...}` in it refers to another value.
    """
    plain = f"{key}={path}"
    parsed = parse(plain)
    is_same = parsed is not None and not parsed.is_sweep_override() and parsed.value() == str(path)
    if is_same and (has_references or "${" not in plain):
        return plain
    return f"{key}={(quoted_once if has_references else quoted)(str(path))}"


def read_path(value: str) -> str:
    """Return the path that an override's value stands for, without quotes and `~`."""
    return os.path.expanduser(unquoted(value))  # noqa: PTH111 (an unknown user's stays as it is)


def exists(path: str) -> bool:
    """Return whether there is such a file or folder, or the folder that has `${` in its name."""
    home = os.path.expanduser(path)  # noqa: PTH111
    named = [home, *(str(folder) for folder in Path(home).parents if "${" in str(folder))]
    return any(map(os.path.exists, named))  # a name that is too long is that of no file


def expand_home(node: DictConfig) -> None:
    """Replace the `~` of every path in a composed config, wherever it was given: in the environment, too."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    with read_write(node), open_dict(node):
        for key in map(str, node):
            is_of_environment = str(raw.get(key)).startswith("${oc.env:")
            if OmegaConf.is_missing(node, key):
                continue
            if OmegaConf.is_interpolation(node, key) and not is_of_environment:
                continue
            value = node[key]
            if isinstance(value, DictConfig):
                expand_home(value)
            elif isinstance(value, str) and value.startswith("~") and names_path(key):
                node[key] = read_path(value)
