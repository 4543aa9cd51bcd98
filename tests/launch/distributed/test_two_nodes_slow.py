"""Two machines, as two network namespaces: one is lost and comes back, and training resumes."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mambavision_lab.files import configs_folder

ADDRESSES = {"mvl-a": "10.77.0.1", "mvl-b": "10.77.0.2"}
# Otherwise torchrun announces the address of its store only once, and a returning machine never learns it.
ENVIRONMENT = {"GLOO_SOCKET_IFNAME": "veth", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
NUM_EPOCHS = 16
SMALL = (
    f"name=nodes trainer=ddp_multinode trainer.accelerator=cpu trainer.max_epochs={NUM_EPOCHS} "
    "scheduler.warmup_epochs=0.5 data.num_train=640 data.num_val=33 data.num_test=35 data.batch_size=8 "
    "model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2"
).split()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Two network namespaces that reach each other and nothing else."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("ip") is None:
        pytest.skip("needs Linux, root and the command ip")
    try:
        ip("netns", "add", "mvl-a")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr}")
    try:
        ip("netns", "add", "mvl-b")
        ip(
            "link",
            "add",
            "veth",
            "netns",
            "mvl-a",
            "type",
            "veth",
            "peer",
            "veth",
            "netns",
            "mvl-b",
        )
        for host, address in ADDRESSES.items():
            ip("-n", host, "address", "add", f"{address}/24", "dev", "veth")
            for device in ("lo", "veth"):
                ip("-n", host, "link", "set", device, "up")
        yield ADDRESSES
    finally:
        for host in ADDRESSES:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)


@pytest.mark.slow
def test_training_resumes_when_a_lost_machine_comes_back(start, hosts, tmp_path):
    def join(host: str) -> subprocess.Popen:
        first = host == "mvl-a"
        launcher = (
            "-m torch.distributed.run --nnodes=2 --nproc-per-node=1 --max-restarts=3 "
            f"--rdzv-backend=c10d --rdzv-id=nodes --rdzv-endpoint={hosts['mvl-a']}:29400 "
            f"--rdzv-conf=is_host={int(first)} --local-addr={hosts[host]}"
        ).split()
        with (tmp_path / f"{host}.txt").open("a") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", host, sys.executable, *launcher, "train.py", *SMALL],
                cwd=configs_folder().parent,
                env=os.environ | ENVIRONMENT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def output() -> str:
        return "\n".join((tmp_path / f"{host}.txt").read_text() for host in hosts)

    nodes = {host: join(host) for host in hosts}
    try:
        runs = tmp_path / "logs" / "train" / "nodes"
        deadline = time.monotonic() + 120
        while len(epochs := epochs_in(runs)) < 3:
            assert time.monotonic() < deadline, output()
            time.sleep(0.1)
        assert len(epochs) < NUM_EPOCHS
        kill_all("mvl-b")
        nodes["mvl-b"].wait()
        time.sleep(20)  # torchrun takes a machine for lost after three heartbeats of 5 s
        nodes["mvl-b"] = join("mvl-b")
        assert [node.wait(timeout=240) for node in nodes.values()] == [0, 0], output()
    finally:
        for host in hosts:
            kill_all(host)
    (run,) = runs.iterdir()
    assert f"restarted by torchrun: resuming from {run}/checkpoints/last.ckpt" in output()
    assert epochs_in(runs) == list(range(NUM_EPOCHS))
    assert "test/acc1" in json.loads((run / "metrics.json").read_text())


def kill_all(host: str) -> None:
    """Kill every process of a host at once; torchrun's workers are in sessions of their own."""
    found = subprocess.run(
        ["ip", "netns", "pids", host], capture_output=True, text=True, check=True
    )
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def epochs_in(runs: Path) -> list[int]:
    """List the epochs whose metrics the only run there has written, in order."""
    rows: list[dict[str, str]] = []
    for path in runs.glob("*/metrics.csv"):
        rows += csv.DictReader(path.read_text().splitlines())
    return [int(row["epoch"]) for row in rows if row.get("train/images_per_s")]
