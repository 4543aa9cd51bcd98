"""The scan in threads, forked children, data workers and several processes, and without numba."""

import concurrent.futures
import multiprocessing
import subprocess
import sys

import pytest
import torch
from scan_cases import assert_same, each_backend, make_args, run
from tolerances import assert_close
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.ops.selective_scan import selective_scan


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def scan(backend, index):
    args = make_args(40, dim=33, batch=3)
    args["u"] = args["u"] + index
    return selective_scan(**args, backend=backend)


@each_backend
def test_scans_in_threads_at_once_equal_scans_one_by_one(backend, two_threads):
    cases = [make_args(length, batch=3, dim=33) for length in range(20, 32)]
    expected = [run(backend, args) for args in cases]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda args: run(backend, args), cases))
    for a, b in zip(actual, expected, strict=True):
        assert_same(a, b)


class Scans(Dataset):
    def __init__(self, backend):
        self.backend = backend

    def __len__(self):
        return 6

    def __getitem__(self, index):
        torch.manual_seed(0)
        with torch.no_grad():
            return scan(self.backend, index)


FORK = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)


@FORK
@each_backend
def test_scan_runs_in_data_workers(backend, two_threads):
    if backend not in ("numba", "torch"):
        pytest.skip("a forked child cannot use the GPU")
    data = Scans(backend)
    expected = [data[i] for i in range(len(data))]  # so that the children come after a scan
    loader = DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    for actual, y in zip(loader, expected, strict=True):
        assert_close(actual, y, torch.float32)


def put_scan(backend, queue):
    torch.manual_seed(0)
    queue.put(scan(backend, 0).numpy())


@FORK
def test_numba_scan_runs_in_a_forked_child_of_a_process_with_threads(two_threads):
    pytest.importorskip("numba")
    torch.manual_seed(0)
    expected = scan("numba", 0)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=put_scan, args=("numba", queue))
    child.start()
    try:
        actual = torch.from_numpy(queue.get(timeout=60))
        child.join(timeout=60)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert_close(actual, expected, torch.float32)


def loss_gradients(mixer, tokens):
    mixer(tokens).square().mean().backward()
    return [parameter.grad for parameter in mixer.parameters()]


def train_on_half(rank, address, backend, folder):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    state, tokens = torch.load(folder / "given.pt")
    mixer = MambaVisionMixer(12, d_state=4, scan_backend=backend)
    mixer.load_state_dict(state)
    grads = loss_gradients(DistributedDataParallel(mixer), tokens.chunk(2)[rank])
    torch.save(grads, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("backend", ["auto"])
def test_two_processes_get_the_gradients_of_the_whole_batch(backend, tmp_path):
    mixer, tokens = MambaVisionMixer(12, d_state=4, scan_backend=backend), torch.randn(4, 21, 12)
    torch.save((mixer.state_dict(), tokens), tmp_path / "given.pt")
    torch.multiprocessing.spawn(
        train_on_half, (f"file://{tmp_path / 'meeting'}", backend, tmp_path), nprocs=2
    )
    expected = loss_gradients(mixer, tokens)
    for rank in range(2):
        for actual, grad in zip(torch.load(tmp_path / f"{rank}.pt"), expected, strict=True):
            assert_close(actual, grad, torch.float32)


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import torch
from mambavision_lab import create_mambavision
from mambavision_lab.ops.selective_scan import (
    BackendUnavailableError, available_backends, selective_scan,
)
assert "numba" not in available_backends(), available_backends()
assert "torch" in available_backends()
net = create_mambavision("mambavision_nano", 10, image_size=28, in_chans=1)
loss = net(torch.randn(2, 1, 28, 28)).square().sum()
loss.backward()
assert all(p.grad.isfinite().all() for p in net.parameters())
u, B = torch.ones(1, 3, 2), torch.ones(1, 3, 4)
try:
    selective_scan(u, u, -torch.ones(2, 4), B, B, backend="numba")
except BackendUnavailableError as error:
    wanted = "it is not installed; install it, or take 'auto'"
    assert str(error) == "backend 'numba' cannot take this call: " + wanted, error
else:
    raise AssertionError("numba was not missed")
"""


@pytest.mark.slow
def test_all_works_without_numba():
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_NUMBA], check=True)
