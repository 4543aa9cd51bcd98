import errno
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
import timm
import torch
from omegaconf import OmegaConf
from torch import nn

from mambavision_lab.data.create import create_datamodule
from mambavision_lab.errors import RunError
from mambavision_lab.files import configs_folder, list_choices
from mambavision_lab.models.saved import read_saved
from mambavision_lab.tasks.build import (
    build,
    build_multi_scale,
    build_optimizer,
    build_trainer,
    metadata,
    wrap_described,
)

ADAMW = {"_target_": "torch.optim.adamw.AdamW", "_partial_": True, "lr": 1e-3}


@pytest.fixture
def make_part(make_module):
    """Make a module whose function `part` raises what an expression gives."""

    def make(error: str) -> dict[str, str]:
        make_module("raising.py", f"import errno\ndef part():\n    raise {error}\n")
        return {"_target_": "raising.part"}

    return make


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ("ValueError('too\\nbig')", "x: too big"),
        ("KeyError('size')", "x: KeyError: 'size'"),
        ("AssertionError()", "x: AssertionError: AssertionError"),
        ("ModuleNotFoundError('No module named tensorboard')", "x needs tensorboard; install it"),
    ],
)
def test_whatever_a_constructor_raises_is_one_line(make_part, refusal, monkeypatch, error, wanted):
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    node = OmegaConf.create(make_part(error))
    assert refusal(lambda: build(node, "x")).startswith(wanted)


def test_constructor_that_the_system_fails_is_no_mistake_of_the_config(make_part, monkeypatch):
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    node = OmegaConf.create(make_part(f"OSError({errno.ENOSPC}, 'No space left')"))
    with pytest.raises(RunError, match="No space left; free some space"):
        build(node, "x")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"betas": [0.9, 1.5]}, "optimizer: Invalid beta parameter at index 1: 1.5"),
        ({"betas": [0.9]}, "optimizer: IndexError: "),
        ({"lr": -1}, "optimizer: Invalid learning rate: -1"),
        ({"foreach": True, "fused": True}, "optimizer: `fused` and `foreach` cannot be `True`"),
        ({"_partial_": False}, "optimizer: "),
        ({"_target_": "torch.optim.sgd.SGD", "nesterov": True}, "optimizer: Nesterov momentum"),
        ({"_target_": "torch.optim.Muon"}, "optimizer: Muon only supports 2D parameters"),
    ],
)
def test_values_that_an_optimizer_refuses_are_found_at_once(refusal, values, wanted):
    cfg = OmegaConf.create({"optimizer": ADAMW | values})
    assert refusal(lambda: build_optimizer(cfg, nn.Linear(2, 2))).startswith(wanted)


@pytest.mark.parametrize("choice", list_choices("optimizer"))
def test_every_optimizer_steps(choice):
    node = OmegaConf.load(configs_folder() / "optimizer" / f"{choice}.yaml")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3))
    optimizer = build_optimizer(OmegaConf.create({"optimizer": node}), net)(net.parameters())
    before = [parameter.clone() for parameter in net.parameters()]
    for _ in range(2):  # Muon's and LAMB's steps follow from the first gradients, too
        net(torch.ones(1, 1, 3, 3)).square().sum().backward()
        optimizer.step()
    assert not any(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_duration_is_made_of_text():
    node = OmegaConf.create(
        {
            "_target_": "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
            "train_time_interval": "00:00:30:00",
        }
    )
    assert repr(timedelta(minutes=30)) in build(node, "x").state_key


@pytest.mark.parametrize(
    ("sizes", "is_vit", "wanted"),
    [
        (
            [16, 10],
            False,
            "multi_scale.sizes=[16, 10]: PlainMambaVision does not take images of 10 x 10",
        ),
        (
            [16, 8],
            True,
            "multi_scale.sizes=[16, 8]: VisionTransformer does not take images of 8 x 8",
        ),
    ],
)
def test_sizes_that_a_network_does_not_take_are_refused(make_net, refusal, sizes, is_vit, wanted):
    vit = {
        "img_size": 16,
        "patch_size": 4,
        "in_chans": 2,
        "embed_dim": 8,
        "depth": 1,
        "num_heads": 1,
    }
    net = timm.create_model("vit_tiny_patch16_224", **vit) if is_vit else make_net()
    target = "mambavision_lab.data.multi_scale.RandomSizes"
    cfg = OmegaConf.create({"multi_scale": {"_target_": target, "sizes": sizes}})
    data = SimpleNamespace(in_chans=2)
    assert refusal(lambda: build_multi_scale(cfg, net, data)).startswith(wanted)
    cfg.multi_scale.sizes = [16]
    assert build_multi_scale(cfg, net, data).sizes == [16]


@pytest.mark.parametrize("include_background", [False, True])
def test_described_segmentation_counts_the_background_as_its_training_did(include_background):
    masks = torch.zeros(1, 4, 4, dtype=torch.long)
    masks[0, 0, 0] = 1
    description = {"class_names": ["ground", "cat"], "has_masks": True}
    description["include_background"] = include_background
    metric = wrap_described(nn.Identity(), description).metrics["test"]["dice"]
    metric.update(nn.functional.one_hot(torch.zeros_like(masks), 2).movedim(-1, 1).float(), masks)
    wanted = 30 / 31 / 2 if include_background else 0.0  # no cat is found
    assert float(metric.compute()) == pytest.approx(wanted)


def test_checkpoint_of_a_segmentation_says_whether_the_background_counts(tmp_path):
    nodes = {"name": "x", "model": {}, "trainer": {}, "classifier": {"include_background": True}}
    cfg = OmegaConf.create(nodes)
    data = create_datamodule("synthetic_segmentation", num_train=4, num_val=2, num_test=2)
    stored = metadata(cfg, data)
    torch.save({"state_dict": {}, "hyper_parameters": stored}, tmp_path / "best.ckpt")
    assert read_saved(tmp_path / "best.ckpt")[0]["include_background"] is True
    cfg.classifier = {}
    assert "include_background" not in metadata(cfg, data)


@pytest.mark.parametrize(
    ("machine", "instructions", "precision", "is_told"),
    [
        ("x86_64", "AVX2", "bf16-mixed", True),
        ("AMD64", "DEFAULT", "bf16-true", True),
        ("x86_64", "AVX512", "bf16-mixed", False),
        ("x86_64", "AVX2", "32-true", False),
        ("arm64", "DEFAULT", "bf16-mixed", False),
    ],
)
def test_bfloat16_that_the_processor_has_no_instructions_for_is_warned_of(
    monkeypatch, caplog, machine, instructions, precision, is_told
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: instructions)
    trainer = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu"}
    trainer |= {"precision": precision, "enable_checkpointing": False}
    build_trainer(OmegaConf.create({"trainer": trainer, "logger": None, "callbacks": None}))
    told = [text for text in caplog.messages if "add trainer.precision=32-true" in text]
    assert len(told) == is_told
    assert all(text.startswith(f"trainer.precision={precision}: ") for text in told)
