"""Load the server on the loopback address: python benchmarks/deploy.py RUN_OR_FILE [--requests 10000].

16 clients send the same image (for 64 px and more a JPEG of 500 x 375), every hundredth request
malformed; with --images 4 that many in each request, as JSON. In each of ten rounds the bare network runs
first, alone; it keeps the memory that it frees, as the server does, or with --plain runs in a Python
process as it is. It prints images/s and processor time of both (which other processes disturb less), p50
and p99, the server's memory, and how many requests got no answer. The clients are one process on the last
core; the server, and the bare network, have the others. Exported files are timed by `python export.py
export=all`. Linux alone.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import uvloop
from PIL import Image
from torch.nn import functional as F

from mambavision_lab import MambaVisionInference
from mambavision_lab.tasks.memory import keep_freed_memory

CLIENTS, BATCH, ROUNDS = 16, 16, 10
LARGE = 64  # pixels a side from which a network is sent photographs


def make_array(size: int, in_chans: int, num_images: int) -> tuple[str, bytes]:
    """Make the file of an array to send, (N, H, W, C): noise of the network's size and channels."""
    file = io.BytesIO()
    pixels = torch.randint(256, (num_images, size, size, in_chans), dtype=torch.uint8)
    np.save(file, pixels.numpy())
    return "application/octet-stream", file.getvalue()


def make_image(size: int) -> tuple[str, bytes]:
    """Make the file to send: noise of the network's size, or what compresses as a photograph does."""
    if size < LARGE:
        values, kind, options = torch.rand(3, size, size), "PNG", {}
    else:  # noise of all scales, the coarser the stronger
        scales = [
            F.interpolate(torch.randn(1, 3, n, n), (375, 500), mode="bicubic") / n
            for n in (3, 12, 48, 192)
        ]
        values, kind, options = (sum(scales)[0] + 0.5).clamp(0, 1), "JPEG", {"quality": 85}
    file = io.BytesIO()
    pixels = (values * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, kind, **options)
    return f"image/{kind.lower()}", file.getvalue()


def run_bare(inference: MambaVisionInference, seconds: float) -> tuple[float, float]:
    """Run the network alone, on full batches; returns images/s and processor milliseconds an image."""
    size = inference.image_size
    pixels = torch.randint(256, (BATCH, inference.in_chans, size, size), dtype=torch.uint8)
    start, used, count = time.perf_counter(), time.process_time(), 0
    while count < 2 * BATCH or time.perf_counter() - start < seconds:
        inference.rank(pixels, 5, 0.5)
        count += BATCH
    return count / (time.perf_counter() - start), 1e3 * (time.process_time() - used) / count


def processor_s(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def make_body(kind: str, image: bytes, num_images: int) -> tuple[str, bytes]:
    """Return a request's content type and body: the file itself, or JSON with several."""
    if num_images == 1:
        return kind, image
    encoded = [base64.b64encode(image).decode()] * num_images
    return "application/json", json.dumps({"images": encoded}).encode()


async def load(port: int, kind: str, content: bytes, num_requests: int) -> list[tuple[float, int]]:
    """Send the requests; returns each one's milliseconds and status (0: no answer)."""
    good, bad = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (kind.encode(), len(body), body)
        for body in (content, b"no image")
    )
    numbers, done = iter(range(num_requests)), []

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in numbers:
            start = time.perf_counter()
            try:
                writer.write(bad if i % 100 == 99 else good)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(maxsplit=1)[0])
                json.loads(await reader.readexactly(length))
                status = int(head.split(maxsplit=2)[1])
            except (OSError, EOFError, ValueError, IndexError):
                status = 0
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            done.append((1e3 * (time.perf_counter() - start), status))
        writer.close()

    await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    return done


def main() -> None:
    """Start a server, load it, print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=1, help="of a request, 64 at most")
    parser.add_argument("--arrays", action="store_true", help="send .npy files")
    parser.add_argument("--plain", action="store_true", help="compare with a plain Python process")
    arguments = parser.parse_args()
    per_round = arguments.requests // ROUNDS
    cores = os.sched_getaffinity(0)
    clients = {max(cores)}
    if cores == clients:
        raise SystemExit("the clients need a core of their own: wanted two or more")
    os.sched_setaffinity(0, cores - clients)  # the server inherits it
    torch.set_num_threads(len(cores) - 1)
    if not arguments.plain:
        keep_freed_memory()
    inference = MambaVisionInference(arguments.path, device="cpu")
    if arguments.arrays:
        content_type, content = make_array(
            inference.image_size, inference.in_chans, arguments.images
        )
    else:
        content_type, content = make_body(*make_image(inference.image_size), arguments.images)
    is_run = Path(arguments.path).is_dir()
    given = f"{'from_run' if is_run else 'model_file'}={arguments.path}"
    root = Path(__file__).resolve().parents[1]
    server = subprocess.Popen(
        [sys.executable, root / "serve.py", given, "port=0", "device=cpu", f"batch_size={BATCH}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    bare, bare_ms, served, served_ms, answers = [], [], [], [], []
    try:
        assert server.stdout is not None
        port = next(int(m[1]) for line in server.stdout if (m := re.search(r":(\d+),", line)))
        for i in range(-1, ROUNDS):  # the first is the warm-up
            rate, ms = run_bare(inference, 1.0)
            os.sched_setaffinity(0, clients)
            start, used = time.perf_counter(), processor_s(server.pid)
            found = uvloop.run(load(port, content_type, content, per_round))
            seconds, used = time.perf_counter() - start, processor_s(server.pid) - used
            os.sched_setaffinity(0, cores - clients)
            if i >= 0:
                bare, bare_ms = [*bare, rate], [*bare_ms, ms]
                num_images = arguments.images * sum(status == 200 for _, status in found)
                served = [*served, num_images / seconds]
                served_ms = [*served_ms, 1e3 * used / num_images]
                answers += found
    finally:
        server.terminate()
        server.wait()
    shares = [s / b for s, b in zip(served, bare, strict=True)]
    alone, in_server = statistics.median(bare_ms), statistics.median(served_ms)
    ordered = sorted(ms for ms, _ in answers)
    statuses = [status for _, status in answers]
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(cores)} cores, "
        f"{CLIENTS} clients on one of them, {content_type} of {len(content):,} bytes, {arguments.images} "
        "images a request"
    )
    print(
        f"network alone, batch {BATCH}: {statistics.median(bare):.1f} images/s; served: "
        f"{statistics.median(served):.1f}; share {statistics.median(shares):.0%} (rounds: "
        f"{min(shares):.0%} to {max(shares):.0%})"
    )
    print(
        f"processor time: network alone {alone:.2f} ms an image, served {in_server:.2f} ms "
        f"({alone / in_server:.0%})"
    )
    print(
        f"p50 {ordered[len(ordered) // 2]:.1f} ms, p99 {ordered[len(ordered) * 99 // 100]:.1f} ms"
    )
    print(f"statuses: {counts} (0: no answer); server's memory at most {peak:.0f} MiB")


if __name__ == "__main__":
    main()
