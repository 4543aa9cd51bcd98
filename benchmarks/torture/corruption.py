"""Damage to checkpoints: cut at some lengths, flipped bits, a disk that is full. Never loaded as good.

What a flip leaves untouched, such as the padding between the parts of the archive, may be loaded: then
every value must be the one that was saved.
"""

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from benchmarks.torture.outcome import Outcome, count_held
from benchmarks.torture.trial import digest

from mambavision_lab.errors import ConfigError, RunError
from mambavision_lab.files import LAST_CHECKPOINT
from mambavision_lab.lit.checkpoint_io import SafeCheckpointIO
from mambavision_lab.models.saved import load_checkpoint
from mambavision_lab.runs.folder import find_newest_checkpoint

COUNT = 500
SHORT = 50
_MEBIBYTE = 2**20


def run(*, seed: int, count: int) -> list[Outcome]:
    """Flip count bits of a checkpoint, one at a time; cut it, and fill its disk."""
    with tempfile.TemporaryDirectory(prefix="corruption-") as name:
        folder = Path(name)
        good = _save(folder, torch.Generator().manual_seed(seed))
        return [_flip(good, seed, count), _truncate(good), _fill(folder / "small", good)]


def _save(folder: Path, generator: torch.Generator) -> Path:
    """Write what a training writes: weights and the state of an optimizer, two megabytes."""
    weights = {f"net.{k}": torch.randn(100, 100, generator=generator) for k in range(25)}
    states = [{"state": {k: {"exp_avg": x + 1} for k, x in weights.items()}}]
    path = folder / "run" / LAST_CHECKPOINT
    checkpoint = {
        "state_dict": weights,
        "optimizer_states": states,
        "hyper_parameters": {"name": "run"},
        "global_step": 7,
    }
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    shutil.copy(path, path.with_stem("last-1"))
    os.utime(path.with_stem("last-1"), (1, 1))
    return path


def _flip(good: Path, seed: int, count: int) -> Outcome:
    draw, content, wanted = random.Random(seed), good.read_bytes(), digest(load_checkpoint(good))
    head, tail = (
        4096,
        len(content) - 16384,
    )  # its directory is at its end, its pickle at its beginning
    results: list[str | None] = []
    num_harmless = 0
    for number in range(count):
        first, last = [(0, head), (tail, len(content)), (0, len(content))][number % 3]
        position, bit = draw.randrange(first, last), draw.randrange(8)
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        good.write_bytes(damaged)
        loaded = _digest(good)
        num_harmless += loaded == wanted
        is_good = loaded in (None, wanted)
        results.append(None if is_good else f"bit {bit} of byte {position} was loaded")
    good.write_bytes(content)
    detail = f"{num_harmless} of them in padding: every value as it was saved"
    return count_held("flipped bits are never loaded as good", results, detail)


def _truncate(good: Path) -> Outcome:
    content = good.read_bytes()
    results: list[str | None] = []
    for length in (0, 1, len(content) // 2, len(content) - 1):
        good.write_bytes(content[:length])
        found = find_newest_checkpoint(good.parent.parent)
        is_held = _digest(good) is None and found == good.with_stem("last-1")
        results.append(None if is_held else f"{length} bytes: {found}")
    good.write_bytes(content)
    return count_held("truncated: refused, and the one before is found", results)


def _fill(disk: Path, good: Path) -> Outcome:
    """Save into a file system of three megabytes until it is full; a folder where it cannot be mounted."""
    name = "a full disk leaves the earlier checkpoint"
    disk.mkdir()
    size = f"size={3 * _MEBIBYTE}"
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], check=False)
    if mount.returncode:
        return Outcome(name, 0, 0, "not tried: no right to mount a tmpfs")
    try:
        checkpoint, path = load_checkpoint(good), disk / "run" / LAST_CHECKPOINT
        SafeCheckpointIO().save_checkpoint(checkpoint, path)
        try:
            SafeCheckpointIO().save_checkpoint(checkpoint | {"global_step": 8}, path)
            failure = "the second file did fit"
        except RunError:
            files = [file.name for file in path.parent.iterdir()]
            is_held = load_checkpoint(path)["global_step"] == 7 and files == [path.name]
            failure = None if is_held else f"left {files}"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return count_held(name, [failure])


def _digest(path: Path) -> str | None:
    try:
        return digest(load_checkpoint(path))
    except ConfigError:
        return None
