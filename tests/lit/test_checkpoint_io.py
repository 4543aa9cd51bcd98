"""Checkpoints are whole or as they were, and are compared with their checksums before they are loaded."""

import errno
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import OmegaConf

from mambavision_lab.errors import RunError
from mambavision_lab.lit.checkpoint_io import SafeCheckpointIO
from mambavision_lab.models.saved import load_checkpoint, read_saved
from mambavision_lab.tasks.build import build_trainer

FULL_DISK = Path("/dev/full")


@pytest.fixture
def checkpoint() -> dict:
    weights = {"net.weight": torch.arange(2000.0), "net.count": torch.tensor(3)}
    return {"state_dict": weights, "hyper_parameters": {"name": "x"}, "global_step": 24}


@pytest.fixture
def saved(checkpoint, tmp_path):
    """A checkpoint in a folder of its own."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def test_checkpoint_is_saved_and_loaded(checkpoint, saved):
    loaded = SafeCheckpointIO().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["net.weight"], checkpoint["state_dict"]["net.weight"])
    assert loaded["global_step"] == 24
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs /dev/full")
def test_full_disk_leaves_the_earlier_checkpoint(checkpoint, saved, monkeypatch):
    before = saved.read_bytes()
    file = FULL_DISK.open("wb")
    monkeypatch.setattr(type(saved), "open", lambda *_: file)
    with pytest.raises(RunError) as caught:
        SafeCheckpointIO().save_checkpoint(checkpoint, saved)
    monkeypatch.undo()
    message = str(caught.value)
    assert message.startswith(
        f"{saved}: cannot be written ([Errno 28] {os.strerror(errno.ENOSPC)}; free some space or"
    )
    assert message.endswith("then resume the run); the earlier checkpoints are as they were")
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("load", [load_checkpoint, read_saved])
def test_flipped_bits_are_refused(saved, refusal, load):
    content = bytearray(saved.read_bytes())
    position = content.index(torch.tensor(1234.0).numpy().tobytes())
    content[position] ^= 4
    saved.write_bytes(content)
    assert torch.load(saved, weights_only=True)["state_dict"]["net.weight"][1234] != 1234
    assert "is damaged (archive/data/0 does not fit its checksum)" in refusal(lambda: load(saved))


@pytest.mark.parametrize("load", [load_checkpoint, read_saved])
def test_weights_with_nan_are_refused(checkpoint, saved, refusal, load):
    checkpoint["state_dict"]["net.bias"] = checkpoint["state_dict"]["net.weight"] * float("nan")
    checkpoint["state_dict"]["net.weight"][0] = float("nan")
    torch.save(checkpoint, saved)
    assert "NaN in net.weight and 1 more" in refusal(lambda: load(saved))


class Own(TorchCheckpointIO):
    pass


@pytest.mark.parametrize(("plugins", "used"), [(None, SafeCheckpointIO), ([Own()], Own)])
def test_trainer_saves_safely_unless_it_is_given_another_way(plugins, used):
    trainer = {"_target_": "lightning.pytorch.trainer.trainer.Trainer", "accelerator": "cpu"}
    cfg = OmegaConf.create(
        {"trainer": {**trainer, "plugins": plugins}, "callbacks": None, "logger": None},
        flags={"allow_objects": True},
    )
    assert type(build_trainer(cfg).strategy.checkpoint_io) is used
