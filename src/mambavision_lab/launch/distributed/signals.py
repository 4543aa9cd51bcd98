"""Stop a command on Ctrl-C or SIGTERM within seconds, with exit status 130 or 143.

A signal becomes a `SystemExit`, which neither Hydra nor Lightning takes for an error of the run: no
further job of a sweep starts, callbacks and loggers finish their files, and the status stays. Other signals
are left alone: under srun Lightning's Trainer handles SIGUSR1 with a checkpoint and a requeue.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mambavision_lab.launch.distributed.environment import is_rank_zero

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """Stop the command because of a signal; the exit status is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


def handle_signals() -> None:
    """Let a first signal raise `Stopped` in the main thread, and a second one kill the process."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(number)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Handle signals inside the block, and print which one has stopped it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
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
