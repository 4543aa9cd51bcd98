"""Record where a run came from: code, versions, machine, command."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mambavision_lab.config.overrides import shell_line

PACKAGES = ("mambavision-lab", "torch", "torchvision", "lightning", "hydra-core", "timm", "numpy")


def collect(seed: int | None, command: Sequence[str] | None) -> dict[str, Any]:
    """Describe a run of this process as plain values.

    Args:
        seed: The run's seed.
        command: Its command line, the program first, or None where it was started from Python.
    """
    return {
        "time": datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        "command": shell_line([Path(sys.executable).name, *command]) if command else None,
        "folder": str(Path.cwd()),
        "seed": seed,
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "hardware": hardware(),
    }


def list_changes(snapshot: Path) -> list[str]:
    """List what has changed since the run of a snapshot, one line each: code, versions, machine.

    Args:
        snapshot: A snapshot folder; `provenance.json` lies beside it or in it.
    """
    for path in (snapshot.parent / "provenance.json", snapshot / "provenance.json"):
        if path.is_file():
            then = json.loads(path.read_text())
            break
    else:
        return ["the run has no provenance.json; what has changed since is not known"]
    now = collect(then.get("seed"), None)
    lines = []
    for name in ("python", *(f"packages.{p}" for p in PACKAGES)):
        lines.append((name.removeprefix("packages."), _at(then, name), _at(now, name)))
    for name in ("host", "system", "processor", "num_cores", "gpus"):
        lines.append((name, _at(then, f"hardware.{name}"), _at(now, f"hardware.{name}")))
    lines.append(("commit", _at(then, "git.commit"), _at(now, "git.commit")))
    found = [f"{name}: was {old}, is {new}" for name, old, new in lines if old != new]
    for when, record in (("then", then), ("now", now)):
        if _at(record, "git.is_dirty"):
            found.append(f"uncommitted changes {when}: the commit alone does not identify the code")
    return found


def _at(record: dict[str, Any], path: str) -> Any:
    found: Any = record
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and whether files differ from it, or None outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain")
    return {"commit": commit, "is_dirty": None if changes is None else bool(changes)}


def hardware() -> dict[str, Any]:
    """Describe host, processor and, where torch is loaded and sees some, GPUs."""
    machine: dict[str, Any] = {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "num_cores": os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        machine["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    elif torch is None and (gpus := _gpus_of_driver()):
        machine["gpus"] = gpus
    return machine


def _gpus_of_driver() -> list[str]:
    """Return the names of the GPUs as the NVIDIA driver on Linux reports them, without torch."""
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for card in cards for line in card.read_text().splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
