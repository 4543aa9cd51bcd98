"""Predict from files beside the bare network: python benchmarks/predict.py (about ten minutes on two cores).

Makes JPEG files, then times in turns what predict.py does with them (read, decode, resize, classify,
rank) and the network alone on the same images already decoded, in the same batches.
"""

import argparse
import os
import platform
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from timing import interleave

from mambavision_lab import MambaVisionInference, create_mambavision
from mambavision_lab.data.workers import MAX_AUTO_WORKERS, available_cores
from mambavision_lab.models.saved import write_weights
from mambavision_lab.tasks.predict import classify

MODEL = "nvidia/mambavision_t"
TARGET = "mambavision_lab.models.hierarchical.MambaVision"


def make_network(folder: Path) -> MambaVisionInference:
    """Load MambaVision-T with fresh weights and ImageNet's preprocessing, as users do."""
    from omegaconf import OmegaConf

    from mambavision_lab.files import configs_folder

    sizes = OmegaConf.to_container(OmegaConf.load(configs_folder() / "model" / f"{MODEL}.yaml"))
    assert isinstance(sizes, dict)
    architecture = {k: v for k, v in sizes.items() if not str(v).startswith("${")}
    preprocessing = {"image_size": 224, "in_chans": 3, "keeps_aspect": True}
    preprocessing |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    description = {
        "architecture": architecture,
        "preprocessing": preprocessing,
        "class_names": [f"class {i}" for i in range(1000)],
    }
    write_weights(create_mambavision(MODEL), description, folder)
    return MambaVisionInference(folder)


def make_photos(folder: Path, count: int, width: int, height: int) -> list[str]:
    """Write JPEG files of synthetic clouds with some grain, as large as photographs of that size."""
    draws = np.random.default_rng(0)
    names = []
    for i in range(count):
        coarse = Image.fromarray(draws.integers(256, size=(24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        grain = draws.integers(-12, 13, size=smooth.shape)
        image = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
        names.append(str(folder / f"{i:05}.jpg"))
        image.save(names[-1], quality=90)
    return names


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375), metavar=("W", "H"))
    parser.add_argument("--run", help="a run folder or checkpoint; by default an untrained T")
    given = parser.parse_args()
    workers = min(available_cores(), MAX_AUTO_WORKERS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = make_photos(folder, given.images, *given.size)
        megabytes = sum(Path(name).stat().st_size for name in files) / 1e6
        inference = MambaVisionInference(given.run) if given.run else make_network(folder)
        decoded = torch.stack([inference.prepare(name) for name in files])

        def bare() -> torch.Tensor:
            return torch.cat([inference.logits(batch) for batch in decoded.split(given.batch)])

        def whole() -> list[object]:
            return [*classify(inference, files, 5, given.batch, workers)]

        names = inference.require_class_names()
        best = bare()[:, : len(names)].argmax(dim=1).tolist()
        found = [
            ranking[0][0] for _, _, ranking in classify(inference, files, 1, given.batch, workers)
        ]  # type: ignore[index]
        assert found == [names[i] for i in best], "predict.py finds other classes than the network"
        seconds = interleave({"bare": bare, "predict": whole}, given.rounds, num_warm_up=0)
    shares = [b / p for b, p in zip(seconds["bare"], seconds["predict"], strict=True)]
    table = Table(
        title=f"{given.images} JPEGs of {given.size[0]} x {given.size[1]} ({megabytes:.0f} MB), "
        f"batch {given.batch}, {given.run or MODEL} on {inference.device}"
    )
    table.add_column("")
    for heading in ("images/s", "slowest - fastest"):
        table.add_column(heading, justify="right")
    labels = {
        "bare": "network alone, images decoded before",
        "predict": "predict.py's loop, from files",
    }
    for name, label in labels.items():
        rates = [given.images / s for s in seconds[name]]
        table.add_row(
            label, f"{statistics.median(rates):.1f}", f"{min(rates):.1f} - {max(rates):.1f}"
        )
    console = Console(highlight=False, width=110)
    console.print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads for the network, {workers} to decode"
    )
    console.print(table)
    each = ", ".join(f"{share:.2f}" for share in shares)
    console.print(
        f"share of the network's own speed: {statistics.median(shares):.2f} (rounds: {each})"
    )


if __name__ == "__main__":
    main()
