"""ExecuTorch's programs, loaded and run in its own runtime, compute what the network does.

In a process of its own, as its failures can be segmentation faults.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from export_cases import make_hierarchical, make_plain

from mambavision_lab.exporters.executorch import with_plain_convolutions

SCRIPT = """
import sys
from pathlib import Path
from export_cases import DESCRIPTION, make_hierarchical, make_plain
from mambavision_lab.exporters import verify
from mambavision_lab.exporters.executorch import ExecutorchFormat

net, size = make_plain(), 16
if sys.argv[2] == "hierarchical":
    net, size = make_hierarchical(), 32
pte = ExecutorchFormat(tolerance=1e-5)
spec = pte.make_spec(net, 3, size, DESCRIPTION)
pte.write(spec, Path(sys.argv[1]))
run = pte.load(Path(sys.argv[1]))
assert run.description["class_names"] == DESCRIPTION["class_names"]
rows = verify.compare(run, spec, None, 1e-5)
verify.require_parity(rows, 1e-5)
assert min(row.largest_logit for row in rows) > 1e-2
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("executorch") is None, reason="needs executorch")
@pytest.mark.parametrize("family", ["plain", "hierarchical"])
def test_executorch_computes_what_the_network_does(family, tmp_path):
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), family],
        env={**os.environ, "PYTHONPATH": ":".join([*sys.path, str(tests)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-1500:]


@pytest.mark.parametrize("make", [make_plain, make_hierarchical])
@pytest.mark.parametrize("d_conv", [3, 4])
def test_plain_convolutions_compute_what_those_of_the_network_do(make, d_conv):
    net = make(d_conv=d_conv)
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        plain = with_plain_convolutions(net)
        torch.testing.assert_close(plain(images), net(images), atol=1e-6, rtol=0)
    assert "DepthwiseConv1d" in repr(net)
    assert "DepthwiseConv1d" not in repr(plain)
