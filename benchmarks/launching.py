"""Time what surrounds the training steps of a command: python benchmarks/launching.py [PART ...].

loop      A training step of mambavision_nano at batch 64, in Lightning with all default callbacks and the csv
          logger, and in a bare loop. Both train the same network on the same batches, an epoch each in
          turn; their weights must agree after every epoch, or nothing is printed. About a minute.
overhead  Seconds of a whole run of a toy network, alone and through the launcher, and of the jobs of a sweep
          beyond the first. About two minutes.
scaling   Images/s of mambavision_tiny at 224 px, the cores of this machine used by the threads of one process
          and by processes of one thread. About five minutes.
"""

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, seed_everything
from omegaconf import DictConfig

from mambavision_lab import compose
from mambavision_lab.data.workers import available_cores
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.command_line import quoted
from mambavision_lab.lit.callbacks.batch_seed import BatchSeed, seed_batch
from mambavision_lab.lit.training_module import param_groups
from mambavision_lab.tasks.build import (
    build,
    build_classifier,
    build_data,
    build_loss,
    build_net,
    build_trainer,
)

ROOT = configs_folder().parent
TOY = [
    *["trainer.max_epochs=1", "scheduler.warmup_epochs=0.5"],
    *["data.num_train=96", "data.num_val=33", "data.num_test=35"],
    *["model.stem_dim=8", "model.embed_dim=32", "model.depth=2", "model.num_heads=2"],
]
ON_CPU = ["trainer=ddp", "trainer.accelerator=cpu"]
NUM_STEPS = 20  # in an epoch of the loops


class BareLoop(Callback):
    """Repeat each epoch of Lightning's loop without Lightning, and time both."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.seconds: dict[str, list[float]] = {"lightning": [], "bare": []}
        self._began = 0.0

    def on_fit_start(self, trainer, pl_module) -> None:
        """Make the same network, optimizer, schedule and loader again."""
        seed_everything(self.cfg.seed, workers=True, verbose=False)
        self.net = build_net(self.cfg).to(memory_format=torch.channels_last)
        self.net.load_state_dict(pl_module.net.state_dict())
        self.net.train()
        make_optimizer = build(self.cfg.optimizer, "optimizer")
        groups = param_groups(self.net, make_optimizer.keywords["weight_decay"])
        self.optimizer = make_optimizer(groups)
        make_scheduler = build(self.cfg.scheduler, "scheduler")
        num_steps = trainer.estimated_stepping_batches
        self.scheduler = make_scheduler(
            self.optimizer, num_steps=num_steps, steps_per_epoch=NUM_STEPS
        )
        self.loader = trainer.datamodule.train_dataloader()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Start the clock."""
        if batch_idx == 1:  # the first of an epoch waits for the loader's start
            self._began = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Stop the clock after the last step, and repeat the epoch in the bare loop."""
        if batch_idx != NUM_STEPS - 1:
            return
        self.seconds["lightning"].append((time.perf_counter() - self._began) / (NUM_STEPS - 1))
        state = torch.get_rng_state()
        self.seconds["bare"].append(self._epoch(trainer) / (NUM_STEPS - 1))
        torch.set_rng_state(state)
        ours, theirs = (
            torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
            for net in (self.net, pl_module.net)
        )
        difference = float((ours - theirs).norm() / theirs.norm())
        assert difference < 1e-3, f"the two loops have trained different weights: {difference}"

    def _epoch(self, trainer) -> float:
        """Train for an epoch in a usual loop; returns the seconds of all its steps but the first."""
        self.loader.sampler.set_epoch(trainer.current_epoch)
        smoothing, clip = (
            self.cfg.loss.smoothing,
            self.cfg.trainer.gradient_clip_val,
        )
        began = 0.0
        for i, batch in enumerate(self.loader):
            images, labels = trainer.datamodule.on_after_batch_transfer(batch, 0)
            seed_batch(self.cfg.seed, trainer.current_epoch, i, 0)
            if i == 1:
                began = time.perf_counter()
            logits = self.net(images.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits, labels, label_smoothing=smoothing).backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), clip)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        return time.perf_counter() - began


def loop(folder: Path, rounds: int) -> None:
    """Compare Lightning's loop with a bare one."""
    sizes = [f"data.num_train={64 * NUM_STEPS}", "data.batch_size=64", "data.num_val=64"]
    options = [*sizes, "trainer=cpu", f"trainer.max_epochs={rounds + 1}"]
    cfg = compose("train", [*options, f"hydra.run.dir={quoted(folder)}"])
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = build_data(cfg)
    classifier = build_classifier(
        cfg,
        build_net(cfg),
        data.num_classes,
        optimizer=build(cfg.optimizer, "optimizer"),
        scheduler=build(cfg.scheduler, "scheduler"),
        loss=build_loss(cfg, data),
    )
    bare = BareLoop(cfg)
    trainer = build_trainer(cfg, BatchSeed(cfg.seed), bare)
    trainer.fit(classifier, datamodule=data)
    timed = {name: values[1:] for name, values in bare.seconds.items()}  # the first warms up
    for name, values in timed.items():
        print(f"  {name:<9} {spread([1e3 * v for v in values])} ms a step")
    ratios = [a / b - 1 for a, b in zip(timed["lightning"], timed["bare"], strict=True)]
    print(f"  Lightning and callbacks add {spread([100 * r for r in ratios])} %")


def train(folder: Path, *overrides: str, threads: int = 1) -> float:
    """Run train.py in a process of its own; returns the seconds it took."""
    environment = os.environ | {"MAMBAVISION_LOGS": str(folder), "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def overhead(folder: Path, rounds: int) -> None:
    """Time whole runs, and jobs of sweeps."""
    kinds = {
        "one process, no launcher": ["trainer=cpu"],
        "one process, launched": [*ON_CPU, "trainer.devices=1", "launcher.max_restarts=1"],
        "two processes, launched": [*ON_CPU, "trainer.devices=2"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, options in kinds.items():
            seconds[name].append(train(folder, *TOY, *options))
    for name, values in seconds.items():
        print(f"  {name:<26} {spread(values)} s a run")
    for name, options in list(kinds.items())[::2]:
        train(folder / name, "-m", *TOY, *options, "seed=range(4)")
        (table,) = (folder / name).rglob("sweep.csv")
        with table.open() as file:
            jobs = [float(row["seconds"]) for row in csv.DictReader(file)]
        print(f"  {name:<26} first job of a sweep {jobs[0]:.1f} s, later ones {spread(jobs[1:])} s")


def scaling(folder: Path, rounds: int) -> None:
    """Compare threads with processes on the same cores."""
    cores = available_cores()
    sizes = f"data.num_train={16 * 8} data.num_val=10 data.num_test=10 trainer.max_epochs=3".split()
    common = ["model=mambavision_tiny", "data.image_size=224", "scheduler.warmup_epochs=1", *sizes]
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, options, num_processes in (
            (f"one process, {cores} threads", ["trainer=cpu"], 1),
            (
                f"{cores} processes, 1 thread",
                [*ON_CPU, f"trainer.devices={cores}"],
                cores,
            ),
        ):
            where = folder / f"{number} {name}"
            batch = f"data.batch_size={16 // num_processes}"
            train(where, *common, batch, *options, threads=cores // num_processes)
            (metrics,) = where.rglob("train/*/*/metrics.csv")
            with metrics.open() as file:
                rows = [row["train/images_per_s"] for row in csv.DictReader(file)]
            rates.setdefault(name, []).extend(
                [float(r) for r in rows if r][1:]
            )  # the first warms up
    for name, values in rates.items():
        print(f"  {name:<24} {spread(values)} images/s")
    threads, processes = (statistics.median(values) for values in rates.values())
    print(f"  processes / threads: {processes / threads:.2f}")


def spread(values: list[float]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


PARTS = {"loop": loop, "overhead": overhead, "scaling": scaling}


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], help="what to measure; default all"
    )
    parser.add_argument("--rounds", type=int, help="repetitions; default 12 for loop, 3 for others")
    args = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {available_cores()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, lightning {lightning.__version__}"
    )
    for name in args.parts or PARTS:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder), args.rounds or (12 if name == "loop" else 3))


if __name__ == "__main__":
    main()
