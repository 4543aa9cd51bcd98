"""Loggers whose failures do not end a run."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyExperiment

from mambavision_lab.errors import reason

log = logging.getLogger(__name__)

_MAX_CALLS = 100_000  # kept for a logger that has failed
_PATIENCE = 10.0  # a logger that takes long is left alone for this many times as long
_LONG_S = 5.0


class TolerantLogger(Logger):
    """Give calls to a logger that may fail or take long: the first failure is a warning, the run continues.

    Calls that have failed are kept and made again, in order, before the next ones. One that took long is
    followed by a pause of ten times as long, so that a server that does not answer costs a run a tenth of
    its time at most. What could not be delivered until the end is in the run's log.
    """

    _calls: deque[Callable[[], Any]]
    _not_before: float
    _is_calling: bool
    _has_warned: bool

    @property
    def experiment(self) -> Any:
        """The library's own object, or one that does nothing where that cannot be made."""
        if self._is_calling:
            return super().experiment  # type: ignore[misc]
        try:
            return super().experiment  # type: ignore[misc]
        except Exception as error:
            self._warn(error)
            return DummyExperiment()

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Log metrics."""
        self._call("log_metrics", *args, **kwargs)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log hyperparameters."""
        self._call("log_hyperparams", *args, **kwargs)

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Log the network's graph."""
        self._call("log_graph", *args, **kwargs)

    def save(self) -> None:
        """Write what is held in memory."""
        self._call("save")

    def after_save_checkpoint(self, *args: Any) -> None:
        """Upload a checkpoint, where the logger does."""
        self._call("after_save_checkpoint", *args)

    def finalize(self, status: str) -> None:
        """Try once more."""
        self._not_before = 0.0
        self._call("finalize", status)
        if self._calls:
            log.info("%s: %d calls were not delivered", _name(self), len(self._calls))

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        function = getattr(super(), method)
        self._calls.append(lambda: function(*args, **kwargs))
        while len(self._calls) > _MAX_CALLS:
            self._calls.popleft()
        if self._is_calling or time.monotonic() < self._not_before:
            return
        start, self._is_calling = time.monotonic(), True
        try:
            while self._calls and time.monotonic() - start <= _LONG_S:
                self._calls[0]()
                self._calls.popleft()
        except Exception as error:
            self._warn(error)
        finally:
            self._is_calling = False
            seconds = time.monotonic() - start
            if seconds > _LONG_S:
                self._not_before = time.monotonic() + _PATIENCE * seconds

    def _warn(self, error: Exception) -> None:
        level = logging.INFO if self._has_warned else logging.WARNING
        self._has_warned = True
        log.log(level, "%s fails, the run continues: %s", _name(self), _text(error))


def tolerant(logger: Logger) -> Logger:
    """Let a logger's failures be warnings; it stays an instance of its class."""
    kind = type(logger)
    logger.__class__ = type(kind.__name__, (TolerantLogger, kind), {"__module__": kind.__module__})
    vars(logger).update(_calls=deque(), _not_before=0.0, _is_calling=False, _has_warned=False)
    return logger


@contextmanager
def tolerating(logger: Logger) -> Iterator[None]:
    """Let a failure of what is done to a logger's own object inside the block be a warning."""
    try:
        yield
    except Exception as error:
        log.warning("%s fails, the run continues: %s", _name(logger), _text(error))


def _name(logger: Logger) -> str:
    return f"logger {type(logger).__name__}"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {reason(error)}"
