"""Refuse what the config of a run's folder would call, unless it is known or its user trusts the folder.

A folder that was copied from elsewhere may name anything that can be imported, such as `os.system`. Known
are what `configs/` names, classes of our own packages and of some libraries, and the user's own modules,
which lie neither among the installed packages nor in that folder.
"""

import os
import re
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mambavision_lab.config.check import target_nodes
from mambavision_lab.config.signatures import find_class, find_source
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder

_KNOWN = re.compile(
    r"mambavision_lab\.(data|exporters|launch\.sweeps|lit|models)\.|hydra_plugins\.|"
    r"hydra\._internal\.core_plugins\.|timm\.optim\.|torch\.(nn|optim)\.|"
    r"lightning\.pytorch\.(callbacks|loggers|plugins|profilers|strategies|trainer)\."
)


def check_trust(node: Any, run: Path, given: Sequence[str], path: str = "") -> None:
    """Check plain values that come from a run's folder: every `_target_`, and what they read elsewhere.

    Args:
        node: The values.
        run: The run's folder.
        given: What the command itself gives, which is its user's own.
        path: Key of the node, for messages.

    Raises:
        ConfigError: One of them is not known.
    """
    _check_environment(str(node), run)
    for where, found in target_nodes(node, path):
        target = str(found["_target_"])
        if not _is_known(target, run) and not any(target in override for override in given):
            raise ConfigError(
                f"{where}._target_={target}: is no part of this project, but {run} would call it; "
                "give trust=true if you trust that folder"
            )


def _check_environment(text: str, run: Path) -> None:
    """Refuse a reference to the environment that is not one of ours: its value would be kept with the run."""
    if found := re.search(r"\$\{oc\.env:\s*(?!MAMBAVISION_)[^},]*", text):
        raise ConfigError(
            f"{found[0]}}}: {run} would read that from the environment; give trust=true if you "
            "trust that folder"
        )


def check_links(run: Path) -> None:
    """Refuse links in a run's folder to files elsewhere, which a resumed run would write to.

    W&B's own folder has such links, and only W&B writes there.

    Raises:
        ConfigError: There is one.
    """
    folder = run.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "wandb"]
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(folder):
                raise ConfigError(
                    f"{path}: points to a file outside of the run's folder, which a resumed run would write "
                    "to; remove it, or give trust=true if you trust that folder"
                )


def _is_known(target: str, run: Path) -> bool:
    if target in _named_in_configs():
        return True
    try:
        source, found = find_source(target.rpartition(".")[0]), find_class(target)
    except LookupError:
        return True  # there is nothing to call, which another check says
    if found and _KNOWN.match(found):
        return True
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    places = (*installed, Path(__file__).parents[1], run)
    return source is not None and not any(
        source.resolve().is_relative_to(place.resolve()) for place in places
    )


@cache
def _named_in_configs() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in configs_folder().rglob("*.yaml"))
    return {target for text in texts for target in re.findall(r"_target_: (\S+)", text)}
