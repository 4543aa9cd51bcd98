"""Time the networks beside their baselines: python benchmarks/models.py (about five minutes).

Inference and a training step (forward, backward, AdamW) at 224 px and batch 8, in float32 on all cores.
Each network runs in both memory formats, all of them interleaved in one process; its faster format counts.
"""

import argparse
import gc
import os
import platform
import statistics
from collections.abc import Callable
from functools import partial

import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from timing import interleave, median_ms
from torch import Tensor, nn

from mambavision_lab import create_mambavision

Step = Callable[[], object]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "nvidia/mambavision_t": partial(create_mambavision, "nvidia/mambavision_t"),
    "mambavision_small": partial(create_mambavision, "mambavision_small"),
    "resnet50": partial(timm.create_model, "resnet50"),
    "vit_small": partial(timm.create_model, "vit_small_patch16_224"),
    "swin_tiny": partial(timm.create_model, "swin_tiny_patch4_window7_224"),
    "convnext_tiny": partial(timm.create_model, "convnext_tiny"),
}
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def inference(net: nn.Module, images: Tensor) -> Step:
    """Make a call that computes the logits of a batch."""
    net.eval()

    def step() -> Tensor:
        with torch.inference_mode():
            return net(images)

    return step


def training(net: nn.Module, images: Tensor) -> Step:
    """Make a call that does one training step on a batch."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    targets = torch.randint(1000, (len(images),))

    def step() -> None:
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(
    make_step: Callable[[nn.Module, Tensor], Step], batch: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Time each round in s, by network and memory format."""
    steps: dict[str, Step] = {}
    for name, make in NETWORKS.items():
        for kind, memory_format in FORMATS.items():
            torch.manual_seed(0)
            images = torch.randn(batch, 3, 224, 224).to(memory_format=memory_format)
            steps[f"{name} {kind}"] = make_step(make().to(memory_format=memory_format), images)
    seconds = interleave(steps, rounds, num_warm_up=2)
    return {name: {kind: seconds[f"{name} {kind}"] for kind in FORMATS} for name in NETWORKS}


def table(
    title: str, seconds: dict[str, dict[str, list[float]]], batch: int, threads: int
) -> Table:
    """Make a table, a row per network; ratios are images/s of T over those of the row's network."""
    result = Table(title=f"{title}, batch {batch}, 224 px, float32, {threads} threads")
    result.add_column("network")
    for heading in (*(f"{kind} (ms)" for kind in FORMATS), "images/s", "T is faster by"):
        result.add_column(heading, justify="right")
    best = {name: min(kinds.values(), key=statistics.median) for name, kinds in seconds.items()}
    first = best["nvidia/mambavision_t"]
    for name, kinds in seconds.items():
        # Each round's own ratio: what slows the machine down slows both.
        ratio = statistics.median(b / a for a, b in zip(first, best[name], strict=True))
        times = [f"{median_ms(values):.0f}" for values in kinds.values()]
        result.add_row(
            name, *times, f"{batch / statistics.median(best[name]):.1f}", f"{ratio:.2f} x"
        )
    return result


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    console = Console(highlight=False, width=110)
    console.print(
        f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    for title, make_step in (("inference", inference), ("training step", training)):
        seconds = measure(make_step, arguments.batch, arguments.rounds)
        console.print(table(title, seconds, arguments.batch, torch.get_num_threads()))
        gc.collect()


if __name__ == "__main__":
    main()
