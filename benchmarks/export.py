"""Check exported networks and time them: python benchmarks/export.py (about five minutes).

MambaVision-T and the plain small network, with weights by the golden rule (the usual small ones would
hide a wrong scan), each exported, read back in its own runtime and compared with eager mode on random
images. Then latency, all contenders interleaved. On one core, unless --threads is given.

Eager mode has three rows, by its scan: `loop` is what implementations without a kernel do (see
`scan_contenders.py`), `reference` the package's own loop, and `own` is the choice of `auto`.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scan_contenders import loop
from timing import interleave, median_ms
from torch import Tensor, nn

from mambavision_lab import create_mambavision
from mambavision_lab.exporters.base import ExportFormat, Runtime, with_scan
from mambavision_lab.exporters.onnx import OnnxFormat
from mambavision_lab.exporters.openvino import OpenvinoFormat
from mambavision_lab.exporters.torch_export import TorchExportFormat
from mambavision_lab.exporters.torchscript import TorchscriptFormat
from mambavision_lab.exporters.verify import BATCHES, TIMED_BATCHES, compare, require_parity

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from golden.make_plain_toy import by_rule

NETWORKS = {"T": "nvidia/mambavision_t", "small": "mambavision_small"}
SIZES: tuple[tuple[int, int], ...] = ((224, 224), (256, 256), (320, 480))
FORMATS: dict[str, Callable[..., ExportFormat]] = {
    "onnx": partial(OnnxFormat, scan="op", tolerance=1e-5),
    "onnx, unrolled": partial(OnnxFormat, scan="unrolled", tolerance=1e-5),
    "openvino": partial(OpenvinoFormat, scan="op", tolerance=5e-5),
    "torchscript": partial(TorchscriptFormat, tolerance=1e-5),
    "torch_export": partial(TorchExportFormat, scan="op", tolerance=1e-5),
}
BASES = ("eager, loop", "eager, reference", "eager, own")  # of the latencies' ratios
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino")
DESCRIPTION: dict[str, Any] = {"class_names": [f"class {i}" for i in range(1000)]}


@dataclass
class Exported:
    """A file that was written and read back."""

    run: Runtime
    cells: list[list[str]]  # of the table of parity


def make_net(name: str, backend: str = "auto") -> nn.Module:
    """Make a network with weights by the golden rule."""
    net = create_mambavision(NETWORKS[name], scan_backend=backend)
    net.load_state_dict({key: by_rule(key, x.shape) for key, x in net.state_dict().items()})
    return net.eval()


def export(name: str, kind: str, net: nn.Module, size: tuple[int, int]) -> Exported:
    """Write one file, and compare it at the sizes that it takes.

    Raises:
        ParityError: It computes something else.
    """
    export_format = FORMATS[kind](image_size=size)
    spec = export_format.make_spec(net, 3, size[0], DESCRIPTION)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        export_format.write(spec, folder)
        seconds = time.perf_counter() - start
        megabytes = sum((folder / file).stat().st_size for file in export_format.files) / 1e6
        nodes = _num_nodes(folder / export_format.files[0]) if kind.startswith("onnx") else ""
        run = export_format.load(folder)
    rows = compare(run, spec, None, export_format.tolerance)
    require_parity(rows, export_format.tolerance)
    costs = [nodes, f"{megabytes:.1f}", f"{seconds:.1f}"]
    cells = []
    for height, width in dict.fromkeys((row.height, row.width) for row in rows):
        own = [row for row in rows if (row.height, row.width) == (height, width)]
        largest = max(row.largest_logit for row in own)
        differences = [f"{row.difference:.1e}" for row in own]
        cells.append([name, kind, f"{height} x {width}", *differences, f"{largest:.1f}", *costs])
        costs = ["", "", ""]  # one file for all sizes
    return Exported(run, cells)


def _num_nodes(path: Path) -> str:
    import onnx

    return str(len(onnx.load(path, load_external_data=False).graph.node))


def parity_table() -> Table:
    """Make the table of parity, without rows."""
    table = Table(title="logits: largest difference from eager mode")
    for heading in ("network", "format", "size"):
        table.add_column(heading)
    for heading in (*(f"batch {b}" for b in BATCHES), "largest logit", "nodes", "MB", "export s"):
        table.add_column(heading, justify="right")
    return table


def eager(net: nn.Module, images: Tensor) -> Tensor:
    """Compute logits without gradients."""
    with torch.inference_mode():
        return net(images)


def usual_loop(u: Tensor, delta: Tensor, *maps: Tensor, delta_bias: Tensor, **_: Any) -> Tensor:
    """Run the usual loop with the arguments of `selective_scan`."""
    A, B, C, D = maps
    y = loop(u, delta + delta_bias, A, B, C)
    return y if D is None else y + D * u


def latency_rows(
    name: str, runs: dict[str, Runtime], batch: int, num_rounds: int
) -> list[list[str]]:
    """Time all at 224 px; ratios are medians over the rounds, as other load slows a whole round."""
    images = torch.randn(batch, 3, 224, 224)
    calls = {kind: partial(run, images) for kind, run in runs.items()}
    seconds = interleave(calls, num_rounds, num_warm_up=2)
    rows = []
    for kind, own in seconds.items():
        ratios = [
            statistics.median(a / b for a, b in zip(own, seconds[base], strict=True))
            for base in BASES
        ]
        spread = f"{1e3 * min(own):.0f} - {1e3 * max(own):.0f}"
        rows.append(
            [name, str(batch), kind, f"{median_ms(own):.1f}", spread, *(f"{r:.2f}" for r in ratios)]
        )
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=[*FORMATS])
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds; 0: no timing")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console(highlight=False, width=140)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    console.print(
        f"{versions}, Python {platform.python_version()}; {given.threads} of {os.cpu_count()} cores"
    )
    parity = parity_table()
    latency = Table(title="latency at 224 px (ms)")
    for heading in ("network", "batch", "run by"):
        latency.add_column(heading)
    for heading in ("median", "fastest - slowest", *(f"/ {base}" for base in BASES)):
        latency.add_column(heading, justify="right")
    for name in given.networks:
        net = make_net(name)
        runs: dict[str, Runtime] = {
            "eager, loop": partial(eager, with_scan(net, usual_loop)),
            "eager, reference": partial(eager, make_net(name, "reference")),
            "eager, own": partial(eager, net),
        }
        for kind in given.formats:
            # A file of the hierarchical family takes all sizes; of the plain one it is made for one.
            for size in SIZES if (name, kind) == ("small", "onnx") else SIZES[:1]:
                with console.status(f"{name} as {kind}"):
                    exported = export(name, kind, net, size)
                console.print(f"{name}, {kind}, {size[0]} x {size[1]}: as in eager mode")
                for cells in exported.cells:
                    parity.add_row(*cells)
                if size == SIZES[0]:
                    runs[kind] = exported.run
        for batch in TIMED_BATCHES if given.rounds else ():
            for row in latency_rows(name, runs, batch, given.rounds):
                latency.add_row(*row)
            latency.add_section()
        parity.add_section()
    console.print(parity)
    if given.rounds:
        console.print(latency)


if __name__ == "__main__":
    main()
