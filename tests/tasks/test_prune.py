"""train.py experiment=prune: the pruned network trains, and is saved, evaluated and resumed like others."""

import pytest
import torch
from task_options import TRAIN

from mambavision_lab import MambaVisionInference


@pytest.mark.slow
def test_pruned_run_is_like_any_other(call, tmp_path):
    assert call("train", *TRAIN, "model.embed_dim=64")[0] == 0
    run = (tmp_path / "logs" / "latest").resolve()
    given = ("experiment=prune", f"from_run={run}", "prune.num_batches=1")
    status, out, err = call("train", *given, "prune.macs=0.8")
    assert (status, err.count("error")) == (0, 0), err
    assert "of the MACs" not in err
    assert "MACs (" in out
    pruned = (tmp_path / "logs" / "latest").resolve()
    assert pruned != run
    small, full = (MambaVisionInference(path, device="cpu") for path in (pruned, run))
    widths = small.description["architecture"]["widths"]
    assert all(width % 8 == 0 for name, width in widths.items() if name.endswith("mlp"))
    count = [sum(p.numel() for p in one.net.parameters()) for one in (small, full)]
    assert count[0] < count[1]
    status, _, err = call("train", *given, "loss=cross_entropy", "prune.macs=0.9")
    assert status == 0, err
    status, _, err = call("train", *TRAIN, "loss=unpruned")
    assert (status, "loss=unpruned: is for experiment=prune" in err) == (2, True)
    assert call("eval", f"from_run={pruned}", "trainer=cpu")[0] == 0
    assert call("export", f"from_run={pruned}", "export=torchscript")[0] == 0
    assert call("analyze", f"ckpt_path={pruned}/checkpoints/best.ckpt", "device=cpu")[0] == 0
    last = pruned / "checkpoints" / "last.ckpt"
    status, _, err = call(
        "train", f"from_run={pruned}", f"ckpt_path={last}", "trainer.max_epochs=2"
    )
    assert status == 0, err
    again = torch.load(
        (tmp_path / "logs" / "latest" / "checkpoints" / "last.ckpt"), weights_only=True
    )
    assert again["hyper_parameters"]["model"]["widths"] == widths
    status, out, err = call("train", f"from_run={pruned}", "name=again")
    assert (status, "pruned " in out) == (0, False), err
    status, _, err = call("train", f"from_run={pruned}", "prune.macs=0.7")
    assert (status, "is pruned already; add experiment=prune" in err) == (2, True), err
    refused = {
        "prune.macs=0.01": "keep their width",
        "prune.macs=0": "above 0 and below 1",
        "prune.score=random": "magnitude or taylor",
        "prune.is_done=true": "it is recorded when a network is pruned",
        "model.depth=3": "has another network than this config",
        "model.num_heads=1": "has another network than this config",
        "data.mean=[0.9]": "has another data.mean or data.std",
        "data.num_classes=5": "has another",
    }
    for override, named in refused.items():
        status, _, err = call("train", *given, override)
        assert (status, named in err) == (2, True), err
