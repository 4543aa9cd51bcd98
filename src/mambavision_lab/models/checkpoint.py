"""Load weights that somebody trained into a network: from a file, a folder or the Hugging Face hub.

Nothing pickled in a file is run, and no second copy of the weights stands in memory while loading.
"""

import argparse
import ctypes
import logging
import mmap
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from mambavision_lab.errors import ConfigError
from mambavision_lab.models.backbone import Backbone

log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".ckpt", ".pth.tar", ".pth", ".pt", ".bin")
# Where archives keep the weights, beside an optimizer and other things; the first found is taken.
WRAPPERS = ("state_dict", "model", "state_dict_ema")
WANTED = (
    f"wanted a file ({', '.join(SUFFIXES)}), a folder with one, "
    "or a hub id such as nvidia/MambaVision-T-1K"
)
_OTHER_MODEL = "choose the model that it was made for"


def load_pretrained(net: Backbone, source: str) -> None:
    """Load weights into a network; a head for another number of classes keeps its fresh weights.

    Args:
        net: The network, of either family, in memory.
        source: A file, a folder that holds one, or an id on the Hugging Face hub.

    Raises:
        ConfigError: There is nothing to load, it is damaged, or it fits another network.
    """
    path = find_weights(source)
    state = _own_entries(net, _read(path, source), source)
    net.fit_state_dict(state)
    other_head = _leave_out_other_head(net, state)
    own = net.state_dict()
    _check_fit(own, state, source)
    if other_head:
        log.warning("pretrained=%s: %s; the head starts afresh", source, other_head)
    pages = _mapped_memory(path)
    for key, x in own.items():
        x.copy_(state[key])
        _forget(state.pop(key), pages)


def find_weights(source: str) -> Path:
    """The file that a source names; one on the hub is downloaded, or taken from the cache.

    Raises:
        ConfigError: There is no such file.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        places = (path, path / "checkpoints")
        found = [p for place in places for s in SUFFIXES for p in sorted(place.glob(f"*{s}"))]
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
    return _download(source)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the hub's library from telling of every attempt; also a decorator."""
    chatter = logging.getLogger("huggingface_hub")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        chatter.setLevel(level)


@quiet_hub()
def _download(repository: str) -> Path:
    """The weights of a repository on the hub; those in the local cache if the hub cannot be asked."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    log.info("looking for %s on the Hugging Face hub", repository)
    try:
        # This asks once; the functions that download try for half a minute where there is no network.
        siblings = HfApi().model_info(repository, timeout=10).siblings or []
        name = _weights_among([sibling.rfilename for sibling in siblings], repository)
        path = Path(hf_hub_download(repository, name))
    except ConfigError:
        raise
    except Exception as error:  # of many kinds: no network, no such id, no permission
        try:
            folder = Path(snapshot_download(repository, local_files_only=True))
        except Exception:  # nothing there; what the hub said tells more
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise ConfigError(
                f"pretrained={repository}: no such file or folder here, and the Hugging Face hub did not "
                f"give it ({type(error).__name__}: {reason}); check the name and the network, or give a file"
            ) from error
        path = folder / _weights_among(sorted(p.name for p in folder.iterdir()), repository)
    if repository.startswith("nvidia/"):
        _say_licence(repository)
    return path


def _weights_among(names: list[str], repository: str) -> str:
    found = [name for name in names if name.endswith(SUFFIXES)]
    if not found:
        raise ConfigError(f"pretrained={repository}: no weights there; {WANTED}")
    return "model.safetensors" if "model.safetensors" in found else found[0]


@cache
def _say_licence(repository: str) -> None:
    log.warning(
        "%s: these weights are licensed CC-BY-NC-SA 4.0 (not for commercial use)", repository
    )


def _read(path: Path, source: str) -> dict[str, Tensor]:
    """The file's tensors by name; they stay in the file until they are looked at."""
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
        sentence = " ".join(str(error).split()).partition(". ")[0][:160]
        reason = refused[0] if refused else sentence
        raise ConfigError(
            f"pretrained={source}: {path.name} is no checkpoint, is damaged, or holds more than weights "
            f"({reason or type(error).__name__}); nothing in it was run"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    tensors = state.items() if isinstance(state, dict) else ()
    return {key: x for key, x in tensors if isinstance(x, Tensor)}


def _own_entries(net: Backbone, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The network's own entries without what an archive puts in front, such as module. or encoder."""
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
    """Replace a head for other classes by the network's own; returns what differs, if it matters."""
    own = {key: x for key, x in net.state_dict().items() if key.startswith("head.")}
    loaded = {key: state[key] for key in [*state] if key.startswith("head.")}
    if {k: x.shape for k, x in own.items()} == {k: x.shape for k, x in loaded.items()}:
        return ""
    for key in loaded:
        del state[key]
    state.update(own)
    there = len(loaded["head.weight"]) if "head.weight" in loaded else "no"
    return f"it has {there} classes, this network {net.num_classes}" if net.num_classes else ""


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


def _mapped_memory(path: Path) -> list[range]:
    """Where the file lies in this process's memory, as far as the system says (Linux)."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.is_file() else []
    fields = [line.split(maxsplit=5) for line in lines if line.endswith(f" {path.resolve()}")]
    return [range(*(int(end, 16) for end in field[0].split("-"))) for field in fields]


def _forget(x: Tensor, pages: list[range]) -> None:
    """Drop the pages of a mapped file that a tensor was read from; they count as memory in use."""
    start = x.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = x.data_ptr() + x.numel() * x.element_size() - start
    if length and any(start in part and start + length - 1 in part for part in pages):
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)
