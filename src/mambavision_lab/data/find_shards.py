"""Find the tar shards of each split, in a folder or at an address, and count their classes.

Standard library only, so that classes can be counted while a config is composed.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mambavision_lab.data.class_names import Classes, names_of_labels, read_class_names
from mambavision_lab.data.shards import list_samples
from mambavision_lab.data.split_folders import split_in
from mambavision_lab.errors import ConfigError

Pattern = str | Sequence[str] | None  # one, several, or None for those with the split in their name


def find_shards(root: str, split: str, pattern: Pattern) -> list[str]:
    """List the paths or addresses of a split's shards, sorted.

    Args:
        root: Their folder, or its address.
        split: train, val or test.
        pattern: Names below root, with * and ? in a folder, and {000..015} or {a,b} anywhere; None for
            those in a folder whose path has a usual name of the split in it. Where no path has one, all
            are for training.

    Raises:
        ConfigError: A pattern matches none, there are none to train on, or it is unclear what some are for.
    """
    if pattern is not None:
        patterns = [pattern] if isinstance(pattern, str) else pattern
        names = [name for given in patterns for name in _expand(given)]
        return [shard for name in names for shard in _match(root, name, f"data.{split}_shards")]
    if _is_address(root):
        if split == "train":
            raise ConfigError(
                f"data.root={root}: is an address, where no names are listed; give "
                "'data.train_shards=\"NAME-{000..015}.tar\"', and val_shards and test_shards if there are"
            )
        return []
    return _by_name(root).get(split, [])


def fetch_shards(shards: list[str], cache_dir: str) -> list[str]:
    """Download the shards that have an address into cache_dir, unless they are there; returns paths."""
    from mambavision_lab.data.download import download  # whose imports every command would wait for

    paths = []
    for shard in shards:
        if _is_address(shard):
            address = urlsplit(shard)
            path = Path(cache_dir, address.netloc.replace(":", "_"), address.path.lstrip("/"))
            if address.query:  # which may tell one shard from another
                digest = hashlib.sha256(address.query.encode()).hexdigest()[:16]
                path = path.with_name(f"{digest}-{path.name}")
            download(shard, path)
            paths.append(str(path))
        else:
            paths.append(shard)
    return paths


def name_shard_classes(
    root: str, train_shards: Pattern, label_key: str, classes: Classes, cache_dir: str
) -> list[str]:
    """List the classes: those that are given, or the labels of the training shards."""
    found = find_shards(root, "train", train_shards)
    given = read_class_names(classes, Path() if _is_address(root) else Path(root))
    if given is not None:
        return given
    shards = fetch_shards(found, cache_dir)
    names = names_of_labels(
        label for shard in shards for _, label in list_samples(shard, label_key, cache_dir)
    )
    if len(names) < 2:
        raise ConfigError(f"data.root={root}: one class only, {names[0]!r}; wanted two or more")
    return names


def count_shard_classes(
    root: str, train_shards: Pattern, label_key: str, classes: Classes, cache_dir: str
) -> int:
    """Count the classes."""
    return len(name_shard_classes(root, train_shards, label_key, classes, cache_dir))


def _by_name(root: str) -> dict[str, list[str]]:
    if not Path(root).is_dir():
        raise ConfigError(
            f"data.root={root}: no such folder; wanted one of .tar shards, or an address"
        )
    paths = sorted(path for path in Path(root).rglob("*.tar") if not path.name.startswith("."))
    if not paths:
        raise ConfigError(f"data.root={root}: holds no .tar shards; wanted some, not compressed")
    found: dict[str | None, list[str]] = {}
    for path in paths:
        found.setdefault(split_in(path.relative_to(root).as_posix()), []).append(str(path))
    unclear = found.pop(None, [])
    if not found:
        return {"train": unclear}
    if unclear or "train" not in found:
        what = f"what {unclear[0]} is for" if unclear else "which shards are to be trained on"
        raise ConfigError(
            f"data.root={root}: it is unclear {what}; name shards after train, val or test, or give "
            "data.train_shards=PATTERN"
        )
    return {split: shards for split, shards in found.items() if split}


def _match(root: str, name: str, setting: str) -> list[str]:
    if _is_address(root):
        return [f"{root.rstrip('/')}/{name}"]
    if not name or Path(name).is_absolute():
        raise ConfigError(
            f"{setting}={name}: wanted names of shards below data.root={root}; give data.root=FOLDER, and "
            "what follows of their paths"
        )
    found = sorted(str(path) for path in Path(root).glob(name))
    if not found:
        raise ConfigError(f"{setting}: {root}/{name} is not there; wanted a shard in data.root")
    return found


def _expand(pattern: str) -> Iterator[str]:
    """Expand {000..015} and {a,b} as a shell does."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if found is None:
        yield pattern
        return
    first, last, names = found.groups()
    if names is None:
        names = ",".join(f"{k:0{len(first)}}" for k in range(int(first), int(last) + 1))
    for name in names.split(","):
        yield from _expand(pattern[: found.start()] + name + pattern[found.end() :])


def _is_address(root: str) -> bool:
    return "://" in root
