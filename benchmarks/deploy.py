"""Load the server on the loopback address: python benchmarks/deploy.py RUN_OR_FILE [--requests 10000].

16 clients send the same image, every hundredth request malformed; images/s beside those of the bare network
at the same batch, the processor time of both (which other processes disturb less), p50 and p99,
the server's memory, and how many requests got no answer. Exported files are timed by `python export.py
export=all`. Linux alone.
"""

import argparse
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from threading import local

import torch
from PIL import Image

from mambavision_lab import MambaVisionInference

CLIENTS, BATCH = 16, 16
HEADERS = {"Content-Type": "image/png"}


def make_png(size: int) -> bytes:
    """Make an image of noise."""
    pixels = torch.randint(256, (size, size, 3), dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return file.getvalue()


def run_bare(inference: MambaVisionInference) -> tuple[float, float]:
    """Time the network alone, on full batches; returns images/s and processor milliseconds an image."""
    size = inference.image_size
    pixels = torch.randint(256, (BATCH, inference.in_chans, size, size), dtype=torch.uint8)
    times, processor = [], []
    for _ in range(32):
        start, used = time.perf_counter(), time.process_time()
        inference.rank(pixels, 5, 0.5)
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return BATCH / statistics.median(times[2:]), 1e3 * statistics.median(processor[2:]) / BATCH


def processor_s(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def load(port: int, png: bytes, num_requests: int) -> tuple[list[float], list[int], float]:
    """Send the requests; returns each one's milliseconds and status (0: no answer), and all seconds."""
    own = local()

    def ask(i: int) -> tuple[float, int]:
        body = b"no image" if i % 100 == 99 else png
        start = time.perf_counter()
        try:
            if not hasattr(own, "connection"):
                own.connection = HTTPConnection("127.0.0.1", port, timeout=60)
            own.connection.request("POST", "/predict", body, HEADERS)
            answer = own.connection.getresponse()
            json.loads(answer.read())
            status = answer.status
        except (OSError, ValueError):
            own.__dict__.pop("connection", None)
            status = 0
        return 1e3 * (time.perf_counter() - start), status

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(ask, range(num_requests)))
    return [ms for ms, _ in done], [status for _, status in done], time.perf_counter() - start


def main() -> None:
    """Start a server, load it, print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path")
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    inference = MambaVisionInference(arguments.path, device="cpu")
    bare, bare_ms = run_bare(inference)
    is_run = Path(arguments.path).is_dir()
    given = f"{'from_run' if is_run else 'model_file'}={arguments.path}"
    root = Path(__file__).resolve().parents[1]
    server = subprocess.Popen(
        [sys.executable, root / "serve.py", given, "port=0", "device=cpu", f"batch_size={BATCH}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = next(int(m[1]) for line in server.stdout if (m := re.search(r":(\d+),", line)))
        png = make_png(inference.image_size)
        load(port, png, 200)  # warm-up
        used = processor_s(server.pid)
        times, statuses, seconds = load(port, png, arguments.requests)
        served_ms = 1e3 * (processor_s(server.pid) - used) / arguments.requests
    finally:
        server.terminate()
        server.wait()
    ordered = sorted(times)
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    served = arguments.requests / seconds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {CLIENTS} clients")
    print(
        f"network alone, batch {BATCH}: {bare:.0f} images/s; served: {served:.0f} ({served / bare:.0%})"
    )
    print(
        f"processor time: network alone {bare_ms:.2f} ms an image, served {served_ms:.2f} ms "
        f"({bare_ms / served_ms:.0%})"
    )
    print(
        f"p50 {ordered[len(ordered) // 2]:.1f} ms, p99 {ordered[len(ordered) * 99 // 100]:.1f} ms"
    )
    print(f"statuses: {counts} (0: no answer); server's memory at most {peak:.0f} MiB")


if __name__ == "__main__":
    main()
