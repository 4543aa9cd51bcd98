"""Name the process that the others wait for in vain."""

import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, StrategyRegistry
from torch import Tensor
from torch.optim import Optimizer

from mambavision_lab.errors import ConfigError, RunError

_TIMEOUT = re.compile(r"timed? ?out", re.IGNORECASE)
_PARTS = ("training", "validation", "test")


class Place(NamedTuple):
    """How far a rank has come; a rank that is behind has a smaller one."""

    epoch: int
    part: int  # of `_PARTS`
    batch: int
    stage: int  # 0 begun, 1 before the backward pass, 2 before the optimizer's step

    def __str__(self) -> str:
        return f"{_PARTS[self.part]}, epoch {self.epoch + 1}, batch {self.batch + 1}"


class RankWatch(Callback):
    """Where a collective operation times out, say which rank did not arrive, and where it was last.

    Each rank notes its place in a file of the run folder, which all can read. A run of one process notes
    nothing.

    Args:
        timeout_s: How long a rank may be waited for.

    Raises:
        ConfigError: timeout_s is impossible.
        RunError: A rank did not arrive in time.
    """

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ConfigError(f"launcher.timeout_s={timeout_s}: wanted more than 0 seconds")
        self.timeout_s = timeout_s
        self._batch = Place(0, 0, 0, 0)

    def make_strategy(self, name: str) -> DDPStrategy | FSDPStrategy | None:
        """Make a strategy, by Lightning's name for it, whose operations time out; None for other kinds."""
        if name not in StrategyRegistry:
            return None
        entry = StrategyRegistry[name]
        kind = entry["strategy"]
        if not issubclass(kind, DDPStrategy | FSDPStrategy):
            return None
        return kind(**entry["init_params"], timeout=timedelta(seconds=self.timeout_s))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the batch."""
        self._begin(trainer, 0, batch_idx)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Note that the forward pass is over."""
        self._note(trainer, 1)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Note that the backward pass is over."""
        self._note(trainer, 2)

    def on_validation_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        """Note the batch."""
        self._begin(trainer, 1, arguments[2])

    def on_test_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        """Note the batch."""
        self._begin(trainer, 2, arguments[2])

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Explain an operation that has timed out.

        Raises:
            RunError: In place of the exception.
        """
        if (
            trainer.world_size > 1
            and isinstance(exception, RuntimeError)
            and _TIMEOUT.search(str(exception))
        ):
            raise RunError(self._explain(trainer)) from exception

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the file."""
        if trainer.world_size > 1:
            _file(trainer, trainer.global_rank).unlink(missing_ok=True)

    def _begin(self, trainer: Trainer, part: int, batch_idx: int) -> None:
        self._batch = Place(trainer.current_epoch, part, batch_idx, 0)
        self._note(trainer, 0)

    def _note(self, trainer: Trainer, stage: int) -> None:
        if trainer.world_size > 1:
            place = " ".join(map(str, self._batch._replace(stage=stage)))
            with suppress(OSError):  # a full disk, of which the checkpoints will tell
                _file(trainer, trainer.global_rank).write_text(place)

    def _explain(self, trainer: Trainer) -> str:
        places = {rank: _read(trainer, rank) for rank in range(trainer.world_size)}
        known = {rank: place for rank, place in places.items() if place is not None}
        missing = [rank for rank in places if rank not in known]
        last = min(known, key=lambda rank: known[rank], default=None)
        if missing:
            what = f"rank {missing[0]} has not begun its first batch"
        elif last is None or known[last] == max(known.values()):
            what = "a rank hangs, all being equally far"
            what += "" if last is None else f" ({known[last]})"
        else:
            what = f"rank {last} hangs, last seen in {known[last]}"
        return (
            f"{what}: the others have waited for {self.timeout_s:g} s; look at its data and its device, or "
            "raise launcher.timeout_s"
        )


def _file(trainer: Trainer, rank: int) -> Path:
    return Path(trainer.default_root_dir) / f".rank-{rank}"


def _read(trainer: Trainer, rank: int) -> Place | None:
    try:
        return Place(*map(int, _file(trainer, rank).read_text().split()))
    except (OSError, ValueError, TypeError):
        return None
