"""Load weights that somebody trained into a network: from a file, a folder or the Hugging Face hub.

Nothing pickled in a file is run. The network has its own copy of the weights, and while it is made no
second one stands in memory: a file is mapped, copied a part at a time, and unmapped after each, because
pages that were read count as memory in use. (Parameters that stay mapped, as after `load_state_dict(assign=
True)`, change or end the process when a training run overwrites the file that they came from.)
"""

import argparse
import logging
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import find_damage
from mambavision_lab.models.backbone import Backbone
from mambavision_lab.models.hub import download_file
from mambavision_lab.models.saved import find_nan

log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".ckpt", ".pth.tar", ".pth", ".pt", ".bin")
# Keys under which archives hold the weights, beside an optimizer and other things; the first found is taken.
WRAPPERS = ("state_dict", "model", "state_dict_ema")
WANTED = (
    f"wanted a file ({', '.join(SUFFIXES)}), a folder with one, "
    "or a hub id such as nvidia/MambaVision-T-1K"
)
_OTHER_MODEL = "choose the model that it was made for"
_PART = 2**26  # bytes; the peak of memory is the weights and a part of this size


def load_pretrained(net: Backbone, source: str) -> None:
    """Load weights into a network; a head for another number of classes keeps its fresh weights.

    Args:
        net: The network, of either family, in memory.
        source: A file, a folder that holds one, or an id on the Hugging Face hub.

    Raises:
        ConfigError: There is nothing to load, it is damaged, not a number, or it fits another network.
    """
    path = find_weights(source)
    if damage := find_damage(path):
        raise ConfigError(f"pretrained={source}: {path.name} is damaged ({damage}); copy it anew")
    own = net.state_dict()
    is_mapped = path.suffix == ".safetensors" or zipfile.is_zipfile(path)
    remaining = list(own)
    while remaining:
        state = _own_entries(net, _read(path, source), source)
        net.fit_state_dict(state)
        other_head = _leave_out_other_head(net, state)
        if len(remaining) == len(own):
            _check_fit(own, state, source)
            if other_head:
                log.warning("pretrained=%s: %s; the head starts afresh", source, other_head)
        num_bytes = 0
        while remaining and (num_bytes < _PART or not is_mapped):
            x = own[key := remaining.pop()]
            x.copy_(state[key])
            num_bytes += x.nbytes
        del state  # unmapped
    if keys := find_nan(own):
        raise ConfigError(f"pretrained={source}: NaN in {keys}; choose other weights")


def find_weights(source: str) -> Path:
    """Find the file that a source names; one on the hub is downloaded, or taken from the cache.

    Raises:
        ConfigError: There is no such file.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        folders = (path, path / "checkpoints")
        found = [p for folder in folders for s in SUFFIXES for p in sorted(folder.glob(f"*{s}"))]
        best = [p for p in found if p.stem == "best"] or found
        if not best:
            raise ConfigError(f"pretrained={source}: no weights in this folder; {WANTED}")
        if len(best) > 1 and best[0].stem != "best" and best[1].suffix == best[0].suffix:
            names = ", ".join(p.name for p in best[:4])
            raise ConfigError(f"pretrained={source}: this folder holds {names}; name the file")
        return best[0]
    is_hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source) and not source.endswith(SUFFIXES)
    if not is_hub_id:
        raise ConfigError(f"pretrained={source}: no such file; {WANTED}")

    def choose(names: list[str]) -> str:
        weights = [name for name in names if name.endswith(SUFFIXES)]
        if not weights:
            raise ConfigError(f"pretrained={source}: no weights there; {WANTED}")
        return "model.safetensors" if "model.safetensors" in weights else weights[0]

    return download_file(source, choose)


def _read(path: Path, source: str) -> dict[str, Tensor]:
    """Map the file's tensors by name; they are read when they are first used."""
    state: Any
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            # torch's older format cannot be mapped. Archives of timm hold a Namespace of settings.
            with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on unusual pickles
                state = torch.load(path, "cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except Exception as error:  # of many kinds, from reading and from refusing pickled code
        refused = re.search(r"GLOBAL [\w.]+|Unsupported (operand|class) [\w.]+", str(error))
        cause = refused[0] if refused else reason(error).partition(". ")[0][:160]
        raise ConfigError(
            f"pretrained={source}: {path.name} is no checkpoint, is damaged, or holds more than weights "
            f"({cause}); nothing in it was run"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    tensors = state.items() if isinstance(state, dict) else ()
    return {key: x for key, x in tensors if isinstance(x, Tensor)}


def _own_entries(net: Backbone, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Take the network's own entries, without what archives put in front, such as module. or encoder."""
    anchor = next(iter(net.state_dict()))
    prefixes = [key.removesuffix(anchor) for key in state if key.endswith(anchor)]
    if not prefixes:
        raise ConfigError(
            f"pretrained={source}: these are no weights of {type(net).__name__}: {anchor!r} is not "
            f"among its {len(state)} entries ({_some(list(state))}); {_OTHER_MODEL}"
        )
    prefix = min(prefixes, key=len)
    return {key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)}


def _leave_out_other_head(net: Backbone, state: dict[str, Tensor]) -> str:
    """Replace a head for other classes by the network's own; returns the difference, if it matters."""
    own = {key: x for key, x in net.state_dict().items() if key.startswith("head.")}
    loaded = {key: state[key] for key in [*state] if key.startswith("head.")}
    if {k: x.shape for k, x in own.items()} == {k: x.shape for k, x in loaded.items()}:
        return ""
    for key in loaded:
        del state[key]
    state.update(own)
    count = len(loaded["head.weight"]) if "head.weight" in loaded else "no"
    return f"it has {count} classes, this network {net.num_classes}" if net.num_classes else ""


def _check_fit(own: dict[str, Tensor], state: dict[str, Tensor], source: str) -> None:
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = {
        "missing": [key for key in own if key not in state],
        "unknown": [key for key in state if key not in own],
        "of another shape": shapes,
    }
    if found := [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]:
        conv = next(key for key in own if key.endswith(".0.weight"))  # the first one
        loaded = state.get(conv, own[conv])
        if loaded.ndim == 4 and loaded.shape[1] != own[conv].shape[1]:
            found.append(f"it takes {loaded.shape[1]} channels: data.in_chans={loaded.shape[1]}")
        raise ConfigError(
            f"pretrained={source}: does not fit the network: {'; '.join(found)}; {_OTHER_MODEL}"
        )


def _some(keys: list[str]) -> str:
    return ", ".join([*keys[:4], *(["..."] if len(keys) > 4 else [])])
