"""Run something in a child forked from this process, whose imports it has already, with a time limit."""

import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a child has ended.

    Attributes:
        status: Exit status; negative for a signal, None where it ran out of time and was killed.
        output: What it wrote to stdout and stderr.
        peak_mb: The most memory that it held, in MB.
    """

    status: int | None
    output: str
    peak_mb: float

    @property
    def errors(self) -> list[str]:
        """The lines that begin with `error: `."""
        return [line for line in self.output.splitlines() if line.startswith("error: ")]

    def explain(self) -> str | None:
        """Say what is wrong where it neither succeeded nor refused in one line with status 2."""
        tail = " | ".join(self.output.splitlines()[-3:])[-300:]
        if self.status is None:
            return f"ran out of time: {tail}"
        if "Traceback" in self.output or self.status not in (0, 2):
            return f"status {self.status}: {tail}"
        if self.status == 2 and len(self.errors) != 1:
            return f"status 2 with {len(self.errors)} lines of error: {tail}"
        return None


def run_forked(action: Callable[[], object], timeout_s: float) -> Ended:
    """Run an action in a child and wait for it."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        pid = os.fork()
        if pid == 0:
            _run_child(action, output.fileno())
        status, usage = _wait(pid, time.monotonic() + timeout_s)
        output.seek(0)
        text = output.read()
    return Ended(status, text, usage)


def run_command(task: str, *arguments: str, timeout_s: float = 120) -> Ended:
    """Run a command of the package in a child: train, eval and so on, with its arguments."""
    commands = importlib.import_module("mambavision_lab.commands")
    name = {"eval": "evaluate"}.get(task, task)

    def action() -> None:
        sys.argv = [f"{task}.py", *arguments]
        getattr(commands, name)()

    return run_forked(action, timeout_s)


def warm_up() -> None:
    """Import what the commands need, and let Hydra's parser read a config, which is slow at first.

    No network runs here, so that children have no threads to miss.
    """
    sys.path.insert(0, str(ROOT / "src"))
    for name in ("train", "evaluate", "predict", "export", "explain", "analyze", "preview"):
        importlib.import_module(f"mambavision_lab.tasks.{name}")
    importlib.import_module("mambavision_lab.api").compose("train", ["trainer=debug"])


def _run_child(action: Callable[[], object], descriptor: int) -> None:
    os.setsid()  # so that its own children are killed with it
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    status = 0
    try:
        action()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        importlib.import_module("traceback").print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(pid: int, deadline: float) -> tuple[int | None, float]:
    while True:
        done, code, usage = os.wait4(pid, os.WNOHANG)
        if done:
            _kill_group(pid)  # workers that it has left
            return os.waitstatus_to_exitcode(code), usage.ru_maxrss / 1024
        if time.monotonic() > deadline:
            _kill_group(pid)
            _, _, usage = os.wait4(pid, 0)
            return None, usage.ru_maxrss / 1024
        time.sleep(0.02)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
