"""Time and memory of explanations: python benchmarks/explain.py [--run RUN --num-images 500].

Rows of the scan's implicit attention beside the layer's forward pass and their peak memory by length; every
method on one 224 px image of nvidia/mambavision_t (random weights); with --run the faithfulness table of a
run (what explain.py measure=true prints). Rows are checked against the formula by tests/explainers first.
"""

import argparse
import subprocess
import sys
import time

import torch
from memory import environment, extra_peak_mb
from timing import interleave, median_ms

from mambavision_lab.explainers import scan
from mambavision_lab.explainers.calls import ScanCall
from mambavision_lab.explainers.methods import METHODS, explain, explain_all
from mambavision_lab.explainers.tokens import TokenLayout
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.models.create import create_mambavision

LENGTHS = (1024, 2048, 4096, 8192, 16384)
_DIM = 192
_CHILD = "--memory-of"


def recorded(length: int) -> tuple[MambaVisionMixer, torch.Tensor, ScanCall]:
    """Make a mixer of the plain family's tiny network and what its scan gets for random tokens."""
    torch.manual_seed(0)
    mixer = MambaVisionMixer(_DIM, d_state=16, d_conv=4, expand=2).eval()
    x = torch.randn(1, length, _DIM)
    kept = []

    def keep(*arguments: object, **options: object) -> torch.Tensor:
        kept.append((arguments, options))
        return MambaVisionMixer.scan(*arguments, **options)

    mixer.scan = keep
    with torch.no_grad():
        mixer(x)
    del mixer.scan
    side = length // 32
    return mixer, x, ScanCall("mixer", mixer, TokenLayout((side, 32), (side, 32)), x, tuple(kept))


def time_rows() -> None:
    """Print the time of a row beside the layer's forward pass, by length."""
    print(
        f"| tokens | layer forward (ms) | one row (ms) | ratio | memory of a row (MB) |\n{'|---:' * 5}|"
    )
    for length in LENGTHS:
        mixer, x, call = recorded(length)
        weights = torch.zeros(1, length)
        weights[0, length // 2] = 1

        def forward(mixer: MambaVisionMixer = mixer, x: torch.Tensor = x) -> None:
            with torch.no_grad():
                mixer(x)

        def row(call: ScanCall = call, weights: torch.Tensor = weights) -> None:
            scan.pulled(call, weights)

        times = interleave({"forward": forward, "row": row}, num_rounds=15, num_warm_up=3)
        before, after = median_ms(times["forward"]), median_ms(times["row"])
        command = [sys.executable, __file__, _CHILD, str(length)]
        found = subprocess.run(command, capture_output=True, check=True, env=environment())
        memory = found.stdout.decode().strip()
        print(
            f"| {length} | {before:.1f} | {after:.1f} | {after / before:.2f} | {memory} |",
            flush=True,
        )


def print_memory(length: int) -> None:
    """Print by how many MB the peak memory of this process rises in one row."""
    _, _, call = recorded(length)
    _, _, small = recorded(64)
    scan.pulled(small, torch.ones(1, 64))  # what the backend itself needs
    weights = torch.ones(1, length)
    print(f"{extra_peak_mb(lambda: scan.pulled(call, weights)):.0f}")


def time_methods() -> None:
    """Print the time of each method on one image of 224 pixels, and of all together, which share a run."""
    net = create_mambavision("nvidia/mambavision_t").eval()
    image = torch.randn(1, 3, 224, 224)
    explain(net, image, "scan")  # what the first call compiles
    explain(net, image, "input_x_gradient")
    print("| method | seconds | processor seconds |\n|---|---:|---:|")
    for name, methods in {**{m: [m] for m in METHODS}, "all": [*METHODS]}.items():
        start, start_cpu = time.perf_counter(), time.process_time()
        explain_all(net, image, methods, target=0)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="folder of a training run to measure faithfulness on")
    parser.add_argument("--num-images", type=int, default=500)
    parser.add_argument(_CHILD, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        print_memory(given.memory_of)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    time_rows()
    time_methods()
    if given.run:
        methods = f"method=[{','.join(METHODS)}]"
        options = [f"from_run={given.run}", "measure=true", f"num_measured={given.num_images}"]
        subprocess.run([sys.executable, "explain.py", *options, methods], check=True)


if __name__ == "__main__":
    main()
