"""What a run's safety costs a step of nano: python benchmarks/safety.py (about a minute of processor time).

The default training, batches of 32 images of 32 px on one thread, with a checkpoint every 50 steps. In every
second step the callbacks that make it safe are left out. The table has the processor time inside each, and
below it the difference between the medians of the two kinds of step, which is as exact as the machine is
quiet. Saving is in neither median: its time is divided by the steps between two saves. --asynchronous: also
what a save in Lightning's background thread costs the step that starts it.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from rich.console import Console
from rich.table import Table

from mambavision_lab import api
from mambavision_lab.lit.callbacks.batch_seed import BatchSeed
from mambavision_lab.lit.callbacks.finite_loss import FiniteLoss
from mambavision_lab.lit.callbacks.guard import Guard
from mambavision_lab.lit.callbacks.newest_checkpoint import NewestCheckpoint
from mambavision_lab.lit.callbacks.preemption import Preemption
from mambavision_lab.lit.callbacks.rank_watch import RankWatch

PARTS = (BatchSeed, FiniteLoss, Guard, NewestCheckpoint, Preemption, RankWatch)
HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")
EVERY = 50  # steps between two saves
WARM_UP = 20  # steps


class Alternate(Callback):
    """Leave out the parts in every second step, and measure both kinds.

    Args:
        is_asynchronous: Whether to save in the background.
    """

    latest: "Alternate"

    def __init__(self, *, is_asynchronous: bool = False) -> None:
        self.is_asynchronous = is_asynchronous
        Alternate.latest = self
        self.is_on = True
        self.steps: dict[bool, list[float]] = {True: [], False: []}
        self.spent: defaultdict[str, list[float]] = defaultdict(list)  # seconds of each call

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the place of the hooks."""
        if stage != "fit":
            return
        for part in (c for c in trainer.callbacks if isinstance(c, PARTS)):
            for hook in HOOKS:
                name = type(part).__name__
                setattr(part, hook, self._switched(getattr(part, hook), name))
        trainer.save_checkpoint = self._timed(trainer.save_checkpoint, "save")
        for logger in trainer.loggers:
            logger.log_metrics = self._timed(logger.log_metrics, "metrics.csv")
            logger.save = self._timed(logger.save, "metrics.csv")
        clip = pl_module.configure_gradient_clipping
        ways = {on: self._timed(clip, f"clip {on}") for on in (True, False)}
        pl_module.configure_gradient_clipping = lambda *args, **kwargs: ways[self.is_on](
            *args, **kwargs
        )
        loop = trainer.fit_loop.epoch_loop
        loop.advance = self._step(loop.advance)
        if self.is_asynchronous:
            trainer.strategy.checkpoint_io = AsyncCheckpointIO(trainer.strategy.checkpoint_io)

    def _timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time(), time.perf_counter()
            result = call(*args, **kwargs)
            self.spent[name].append(time.process_time() - start[0])
            self.spent[f"{name}, wall clock"].append(time.perf_counter() - start[1])
            return result

        return timed

    def _switched(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        timed = self._timed(call, name)
        return lambda *args, **kwargs: timed(*args, **kwargs) if self.is_on else None

    def _step(self, advance: Callable[..., Any]) -> Callable[..., Any]:
        count = 0

        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            self.is_on = count % 2 == 0
            start = time.process_time()
            result = advance(*args, **kwargs)
            if count == WARM_UP:
                self.spent.clear()
            elif count > WARM_UP:
                self.steps[self.is_on].append(time.process_time() - start)
            return result

        return step


def measure(num_steps: int, *, is_asynchronous: bool) -> Alternate:
    """Train for some steps."""
    with tempfile.TemporaryDirectory() as folder:
        images = [f"data.num_train={32 * num_steps}", "data.num_val=50", "data.num_test=50"]
        cfg = api.compose(
            "train",
            [
                *(*images, "trainer=cpu", "trainer.max_epochs=1", f"paths.log_dir={folder}"),
                *(f"callbacks.newest.every_n_steps={EVERY}", "~callbacks.predictions"),
                *("~callbacks.progress_bar", "+callbacks.alternate._target_=safety.Alternate"),
                f"+callbacks.alternate.is_asynchronous={is_asynchronous}",
            ],
        )
        api.train(cfg)
    return sys.modules["safety"].Alternate.latest  # not __main__'s


def print_table(found: Alternate) -> None:
    """Print the processor time of each part, and the share of a step."""
    without, with_parts = (statistics.median(found.steps[is_on]) for is_on in (False, True))
    num_on = len(found.steps[True])
    table = Table(
        "part", "ms a step", "share of a step", title=f"a step takes {1e3 * without:.1f} ms"
    )
    saves = found.spent.pop("save")
    in_newest = sum(found.spent["NewestCheckpoint"])
    clips = [statistics.median(found.spent.pop(f"clip {is_on}")) for is_on in (True, False)]
    seconds = {
        name: sum(times) / (2 * num_on if name == "metrics.csv" else num_on)
        for name, times in found.spent.items()
        if not name.endswith("wall clock")
    }
    seconds["NewestCheckpoint"] = max(0.0, in_newest - sum(saves)) / num_on
    seconds["clipping, by the Guard's norm"] = clips[0] - clips[1]
    seconds[f"saving, every {EVERY} steps"] = statistics.median(saves) / EVERY
    for name, s in [*seconds.items(), ("all of them", sum(seconds.values()))]:
        table.add_row(name, f"{1e3 * s:.3f}", f"{s / without:.2%}")
    difference = with_parts - without
    table.add_row("median with - without", f"{1e3 * difference:.3f}", f"{difference / without:.2%}")
    walls = found.spent["save, wall clock"]
    Console(width=110).print(table)
    print(
        f"{len(saves)} saves: {1e3 * statistics.median(saves):.1f} ms of processor time, "
        f"{1e3 * statistics.median(walls):.1f} ms by the clock, {1e3 * max(walls):.1f} at most"
    )


def main() -> None:
    """Print the table, and what a save costs in the background."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--asynchronous", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print_table(measure(arguments.steps, is_asynchronous=False))
    if arguments.asynchronous:
        print("\nLightning's AsyncCheckpointIO around the same:")
        print_table(measure(arguments.steps, is_asynchronous=True))


if __name__ == "__main__":
    main()
