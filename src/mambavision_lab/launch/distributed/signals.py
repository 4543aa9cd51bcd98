"""Ctrl-C and SIGTERM: end the command within seconds, with exit status 130 or 143.

A signal becomes a `SystemExit`, which neither Hydra nor Lightning takes for an error of the run: no
further job of a sweep starts, callbacks and loggers finish their files, and the status stays.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """The command was told to end by a signal; the status is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


def handle_signals() -> None:
    """Let a first signal raise `Stopped` in the main thread, and a second one end the process."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(number)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Handle signals inside the block, and say so when one has ended it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handle_signals()
    try:
        yield
    except Stopped as stop:
        if os.environ.get("RANK", "0") == "0":
            print(f"stopped by {stop.name}", file=sys.stderr, flush=True)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
