"""Stop a command on Ctrl-C, SIGTERM or SIGUSR1, with exit status 130 for Ctrl-C and 143 for the others.

A signal becomes a `SystemExit`, which neither Hydra nor Lightning takes for an error of the run: no
further job of a sweep starts, callbacks and loggers finish their files, and the status stays. A training
notes the signal instead and stops at the end of its step (`StopRequest`). In a SLURM job SIGUSR1 is
Lightning's, which has the job requeued.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mambavision_lab.launch.distributed.environment import is_rank_zero, is_slurm_job

_SAME_REQUEST_S = (
    1.0  # a terminal and a launcher both send a signal; a user's second one comes later
)


def signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a command."""
    stop = (signal.SIGINT, signal.SIGTERM)
    return stop if os.name != "posix" or is_slurm_job() else (*stop, signal.SIGUSR1)


class Stopped(SystemExit):
    """Stop the command because of a signal; the exit status is 130 for Ctrl-C, else 143."""

    def __init__(self, number: int) -> None:
        super().__init__(130 if number == signal.SIGINT else 143)
        self.name = signal.Signals(number).name


class StopRequest:
    """A signal that is noted, so that a training can finish its step; a second one stops it at once.

    Attributes:
        number: Of the first signal; 0 where none has come.
    """

    def __init__(self) -> None:
        self.number = 0
        self._noted_at = 0.0
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """Note signals from now on, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            numbers = {*signals(), *([signal.SIGUSR1] if os.name == "posix" else [])}
            for number in numbers:
                self._before[number] = signal.getsignal(number)
                signal.signal(number, self._note)

    def restore(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    @property
    def is_requeue(self) -> bool:
        """Whether the noted signal is Lightning's, which has SLURM requeue the job."""
        handler = self._before.get(self.number)
        return is_slurm_job() and self.number == signal.SIGUSR1 and callable(handler)

    def forward(self) -> bool:
        """Let Lightning handle a noted requeue signal, once; returns whether it was one."""
        if not self.is_requeue:
            return False
        handler: Any = self._before.pop(self.number)
        signal.signal(self.number, signal.SIG_IGN)  # the job has been requeued
        number, self.number = self.number, 0
        handler(number, None)
        return True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and time.monotonic() - self._noted_at > _SAME_REQUEST_S:
            self.restore()
            _stop(number, frame)
        elif not self.number:
            self.number, self._noted_at = number, time.monotonic()
            if is_rank_zero():
                name = signal.Signals(number).name
                line = f"{name}: stopping after this step; a second signal stops at once\n"
                os.write(2, line.encode())  # the signal may have interrupted a print


def handle_signals() -> None:
    """Let a first signal raise `Stopped` in the main thread, and a second one kill the process."""
    if threading.current_thread() is threading.main_thread():
        for number in signals():
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in signals():
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(number)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Handle signals inside the block, and print which one has stopped it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals()}
    handle_signals()
    try:
        yield
    except Stopped as stop:
        if is_rank_zero():
            print(f"stopped by {stop.name}", file=sys.stderr, flush=True)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
