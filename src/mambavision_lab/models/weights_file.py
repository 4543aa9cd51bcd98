"""Find the file of weights that somebody saved, and read its tensors, whatever lies around them.

Nothing pickled in a file is run. Objects of harmless types beside the weights, such as a path or a number
of NumPy's, are replaced by stand-ins that do nothing; their classes are not even imported. Any other
class is refused.
"""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import WEIGHTS_SUFFIXES, find_damage, is_hub_id
from mambavision_lab.models.hub import download_file

WANTED = (
    f"wanted a file ({', '.join(WEIGHTS_SUFFIXES)}), a folder with one, "
    "or a hub id such as nvidia/MambaVision-T-1K"
)
# Harmless types by module: those that hold entries by name, where weights may lie as well, and others.
_DICTS = {
    "collections": "defaultdict",
    "addict.addict": "Dict",
    "easydict": "EasyDict",
    "fvcore.common.config": "CfgNode",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning.pytorch.utilities.parsing": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "munch": "Munch",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "yacs.config": "CfgNode",
}
_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
_OTHERS = {
    "argparse": "Namespace",
    "builtins": "bool bytes dict float frozenset int list object range slice str tuple",
    "collections": "deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "numpy": "bool_ dtype float16 float32 float64 int32 int64 ndarray",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,  # Python 3.13
    "torch.torch_version": "TorchVersion",
    "types": "SimpleNamespace",
    "typing": "Any",
    "uuid": "UUID",
}
# Names that torch puts between those of modules when it wraps one.
_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class _DictStandIn:
    """Makes an ordinary dict in place of another kind; what the file puts into it stays."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


class _StandIn(list):
    """Takes the place of an object, and all that the file would do with it."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # it may be a key

    def __new__(cls, *_: Any) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


_STAND_INS = [
    (stand_in, f"{module}.{name}")
    for stand_in, names_of in ((_DictStandIn, _DICTS), (_StandIn, _OTHERS))
    for module, names in names_of.items()
    for name in names.split()
]


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
        found = [
            p for folder in folders for s in WEIGHTS_SUFFIXES for p in sorted(folder.glob(f"*{s}"))
        ]
        best = [p for p in found if p.stem == "best"] or found
        if not best:
            raise ConfigError(f"pretrained={source}: no weights in this folder; {WANTED}")
        if len(best) > 1 and best[0].stem != "best" and best[1].suffix == best[0].suffix:
            names = ", ".join(p.name for p in best[:4])
            raise ConfigError(f"pretrained={source}: this folder holds {names}; name the file")
        return best[0]
    if not is_hub_id(source):
        raise ConfigError(f"pretrained={source}: no such file; {WANTED}")

    def choose(names: list[str]) -> str:
        weights = [name for name in names if name.endswith(WEIGHTS_SUFFIXES)]
        if not weights:
            raise ConfigError(f"pretrained={source}: no weights there; {WANTED}")
        return "model.safetensors" if "model.safetensors" in weights else weights[0]

    return download_file(source, choose)


def is_mappable(path: Path) -> bool:
    """Return whether tensors of the file can be mapped; torch's older format cannot."""
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def verify_weights(path: Path, source: str) -> None:
    """Compare an archive with its checksums, which `torch.load` does not.

    Raises:
        ConfigError: It is damaged.
    """
    if damage := find_damage(path):
        raise ConfigError(
            f"pretrained={source}: {path.name} is damaged ({damage}); copy or download it again"
        )


def read_tensors(path: Path, source: str) -> dict[str, Tensor]:
    """Map the file's tensors, by their names behind those of what they lie in ("model.head.weight").

    They are read when they are first used.

    Raises:
        ConfigError: The file is no checkpoint, is damaged, or holds objects of other than harmless types.
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            with torch.serialization.safe_globals([*_STAND_INS]), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on unusual pickles
                content = torch.load(path, "cpu", mmap=is_mappable(path), weights_only=True)
    except Exception as error:  # of many kinds, from reading and from refusing pickled code
        refused = re.search(r"GLOBAL [\w.]+|Unsupported (operand|class) [\w.]+", str(error))
        cause = refused[0] if refused else reason(error).partition(". ")[0][:160]
        raise ConfigError(
            f"pretrained={source}: {path.name} is no checkpoint, is damaged, or holds more than weights "
            f"({cause}); nothing in it was run; wanted what torch.save(net.state_dict(), FILE) writes"
        ) from error
    return {_WRAPPERS.sub("", key): x for key, x in _tensors_in(content, "", set())}


def places_of(name: str, tensors: dict[str, Tensor]) -> list[str]:
    """List what stands in front of a name wherever a file has it, such as "model." and "model_ema."."""
    return [key.removesuffix(name) for key in tensors if f".{key}".endswith(f".{name}")]


def places_at(prefixes: list[str], source: str, key: str | None) -> list[str]:
    """Keep the places that the user chose by `pretrained_key`, such as "model_ema"; None keeps all.

    Raises:
        ConfigError: There are no weights there.
    """
    if key is None:
        return prefixes
    chosen = f"{key}." if key else ""
    if chosen in prefixes:
        return [chosen]
    if below := [prefix for prefix in prefixes if prefix.startswith(chosen)]:
        return below
    raise ConfigError(
        f"pretrained_key={key}: no such weights in {source}; choose one of {_keys(prefixes)}"
    )


def only(prefixes: list[str], source: str) -> str:
    """Return the one place there is.

    Raises:
        ConfigError: There are several.
    """
    if len(prefixes) > 1:
        raise ConfigError(
            f"pretrained={source}: {len(prefixes)} networks in it fit ({_keys(prefixes)}); "
            f"choose one, such as pretrained_key={_keys(prefixes[:1])}"
        )
    return prefixes[0]


def some(keys: list[str]) -> str:
    """List the first few names."""
    return ", ".join([*keys[:4], *(["..."] if len(keys) > 4 else [])])


def among(keys: list[str]) -> str:
    """Say among how many entries something was looked for, with the names of the first few."""
    return (
        f"among its {len(keys)} entries ({some(keys)})" if keys else "there, nor any other weights"
    )


def _keys(prefixes: list[str]) -> str:
    return ", ".join(prefix.removesuffix(".") or "''" for prefix in prefixes)


def _tensors_in(content: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors in nested dicts and lists; what is there twice is found once."""
    if isinstance(content, dict | list | tuple):
        if id(content) in seen:
            return
        seen.add(id(content))
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            if isinstance(value, Tensor):
                yield f"{prefix}{key}", value
            else:
                yield from _tensors_in(value, f"{prefix}{key}.", seen)
