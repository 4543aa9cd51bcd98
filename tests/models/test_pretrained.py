import os
import pickle
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict, deque
from datetime import datetime
from pathlib import PosixPath, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tolerances import assert_close
from toy_weights import assert_same, make_toy, with_prefix
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.models import pretrained, weights_file
from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision, resize_pos_embed
from mambavision_lab.tasks.build import build_net


def make_plain(**options):
    return PlainMambaVision(**{**TOY_OPTIONS, **options})


LAYOUTS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
    "model": lambda state: {"model": state, "args": Namespace(lr=0.1)},
    "state_dict_ema": lambda state: {"state_dict_ema": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "net": lambda state: {"net": state, "best": torch.tensor(0.9)},
    "params": lambda state: {"params": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "model_ema": lambda state: {"model_ema": {"module": state, "decay": 0.99}},
    "list": lambda state: {"models": [with_prefix(state, "backbone.")]},
    "deep": lambda state: {"a": {"b": {"c": with_prefix(state, "module.model.")}}},
    "the same twice": lambda state: {"model": state, "best": state},
    "defaultdict": lambda state: {"weights": defaultdict(list, state)},
    "compiled parts": lambda state: {
        key.replace("levels.2.", "levels.2._orig_mod."): x for key, x in state.items()
    },
    "averaged": lambda state: {
        "state_dict": with_prefix(state, "net."),
        "current_model_state": with_prefix({k: x + 1 for k, x in state.items()}, "net."),
    },
    "module": lambda state: {"state_dict": with_prefix(state, "module.")},
    "encoder": lambda state: {
        "state_dict": {**with_prefix(state, "encoder."), "decoder.weight": torch.ones(2)}
    },
    "several": lambda state: with_prefix(state, "module.encoder."),
    "lightning": lambda state: {
        "state_dict": with_prefix(state, "net."),
        "hyper_parameters": {"model": {"dim": 4}},
        "pytorch-lightning_version": "2.6",
    },
    "compiled": lambda state: {"state_dict": with_prefix(state, "net._orig_mod.")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".pth.tar", ".pth", ".ckpt"])
def test_archive_is_unwrapped(layout, suffix, net, tmp_path):
    path = tmp_path / f"weights{suffix}"
    torch.save(LAYOUTS[layout](net.state_dict()), path)
    assert_same(make_toy(pretrained=str(path)), net)


HARMLESS = {
    "numpy scalar": np.float64(0.5),
    "numpy bool": np.bool_(True),
    "numpy array": np.arange(3.0),
    "defaultdict": defaultdict(int, {"epoch": 3}),
    "deque": deque([1, 2], maxlen=3),
    "path": PosixPath("/tmp/run"),
    "Windows path": PureWindowsPath("C:/run"),
    "date": datetime(2026, 1, 2),
    "namespaces": [Namespace(lr=0.1), SimpleNamespace(lr=0.1)],
    "config": OmegaConf.create({"optimizer": {"lr": 0.1}, "sizes": [1, 2]}),
    "set of paths": {PosixPath("a"), PosixPath("b")},
    "frozenset": frozenset([1]),
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("beside", HARMLESS)
def test_harmless_types_beside_the_weights_are_left_out(beside, is_zip, net, tmp_path):
    content = {"before": HARMLESS[beside], "model": net.state_dict(), "after": HARMLESS[beside]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    assert_same(make_toy(pretrained=str(tmp_path / "a.pth")), net)


@pytest.mark.parametrize("key", ["model_ema", "model_ema.module"])
def test_one_of_several_networks_is_chosen_by_its_key(key, net, tmp_path, refusal):
    path = str(tmp_path / "a.pth")
    others = {key: torch.zeros_like(x) for key, x in net.state_dict().items()}
    content = {"model": others, "model_ema": {"module": net.state_dict()}}
    torch.save(content | {"teacher": make_toy(mlp_ratio=1).state_dict()}, path)
    assert_same(make_toy(pretrained=path, pretrained_key=key), net)
    assert (
        "2 networks in it fit (model, model_ema.module); choose one, such as pretrained_key=model"
        in refusal(lambda: make_toy(pretrained=path))
    )
    message = refusal(lambda: make_toy(pretrained=path, pretrained_key="teacher"))
    assert "a.pth: does not fit the network: " in message
    message = refusal(lambda: make_toy(pretrained=path, pretrained_key="mod"))
    assert message.endswith("choose one of model, model_ema.module, teacher")


def test_outermost_of_several_networks_has_the_empty_key(net, tmp_path, refusal):
    path = str(tmp_path / "a.pth")
    others = {key: torch.zeros_like(x) for key, x in net.state_dict().items()}
    torch.save({**net.state_dict(), "ema": others}, path)
    assert "fit ('', ema); choose one" in refusal(lambda: make_toy(pretrained=path))
    assert_same(make_toy(pretrained=path, pretrained_key=""), net)


def test_file_that_holds_itself_is_read(net, tmp_path):
    content = {"model": net.state_dict()}
    content["all"] = [content]
    torch.save(content, tmp_path / "a.pth")
    assert_same(make_toy(pretrained=str(tmp_path / "a.pth")), net)


@pytest.mark.parametrize("suffix", [".pth.tar", ".safetensors"])
def test_weights_are_a_copy_that_trains_and_outlives_the_file(suffix, net, tmp_path):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(net.state_dict(), path)
    content = path.read_bytes()
    loaded = make_toy(pretrained=str(path)).train()
    assert all(p.requires_grad for p in loaded.parameters())
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert path.read_bytes() == content
    assert not torch.equal(loaded.head.weight, net.head.weight)
    loaded = make_toy(pretrained=str(path))
    path.write_bytes(bytes(len(content)))  # in place, as a training run overwrites last.ckpt
    assert_same(loaded, net)
    path.write_bytes(b"")
    assert_same(loaded, net)
    path.unlink()
    assert_same(loaded, net)


def test_file_is_copied_in_parts(net, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_PART", 4096)
    calls, read = [], pretrained.read_tensors
    monkeypatch.setattr(
        pretrained, "read_tensors", lambda *given: (calls.append(1), read(*given))[1]
    )
    torch.save({"state_dict": with_prefix(net.state_dict(), "net.")}, tmp_path / "a.ckpt")
    assert_same(make_toy(pretrained=str(tmp_path / "a.ckpt")), net)
    assert len(calls) > 3
    calls.clear()
    old = str(tmp_path / "old.pth")  # cannot be mapped, and is read once
    torch.save(net.state_dict(), old, _use_new_zipfile_serialization=False)
    assert_same(make_toy(pretrained=old), net)
    assert calls == [1]


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_safetensors_are_loaded(prefix, net, tmp_path):
    save_file(with_prefix(net.state_dict(), prefix), tmp_path / "model.safetensors")
    loaded = make_toy(pretrained=str(tmp_path / "model.safetensors"))
    (tmp_path / "model.safetensors").write_bytes(b"")  # the network has its own copy
    assert_same(loaded, net)


def test_older_archives_and_half_precision_are_loaded(net, tmp_path):
    old = str(tmp_path / "old.pth")
    torch.save({"state_dict": net.state_dict()}, old, _use_new_zipfile_serialization=False)
    assert_same(make_toy(pretrained=old), net)
    torch.save(net.bfloat16().state_dict(), tmp_path / "half.pth")
    loaded = make_toy(pretrained=str(tmp_path / "half.pth"))
    assert loaded.head.weight.dtype == torch.float32
    assert_same(loaded, net.float())


@pytest.mark.parametrize("name", ["model.safetensors", "a.pth.tar", "checkpoints/best.ckpt"])
def test_folder_stands_for_its_weights(name, net, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (save_file if name.endswith("safetensors") else torch.save)(net.state_dict(), path)
    if path.stem == "best":
        torch.save(make_toy().state_dict(), path.with_name("last.ckpt"))
    assert_same(make_toy(pretrained=str(tmp_path)), net)


def test_folder_with_several_weights_or_none_is_refused(tmp_path, refusal):
    assert "no weights in this folder" in refusal(lambda: make_toy(pretrained=str(tmp_path)))
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    message = refusal(lambda: make_toy(pretrained=str(tmp_path)))
    assert "this folder holds a.pth, b.pth; name the file" in message


@pytest.mark.parametrize(("num_classes", "loaded_classes"), [(3, 7), (5, 3)])
def test_head_for_other_classes_starts_afresh_and_logs_it(
    num_classes, loaded_classes, tmp_path, caplog
):
    net = make_toy(num_classes=loaded_classes)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    loaded = make_toy(num_classes=num_classes, pretrained=str(tmp_path / "a.pth"))
    assert_same(loaded, net, but="head.")
    assert loaded.head.weight.shape == (num_classes, 32)
    assert not loaded.head.bias.any()
    assert (
        f"it has {loaded_classes} classes, this network {num_classes}; the head starts afresh"
        in caplog.text
    )


def test_head_is_left_out_where_there_is_none(net, tmp_path, caplog):
    torch.save(net.state_dict(), tmp_path / "a.pth")
    assert_same(make_toy(num_classes=0, pretrained=str(tmp_path / "a.pth")), net)
    assert not caplog.records


def test_position_embedding_is_interpolated(tmp_path):
    net = make_plain()
    torch.save({"state_dict": with_prefix(net.state_dict(), "net.")}, tmp_path / "a.ckpt")
    loaded = make_plain(image_size=32, pretrained=str(tmp_path / "a.ckpt"))
    assert_close(loaded.pos_embed, resize_pos_embed(net.pos_embed, (8, 8)), torch.float32)
    assert_same(loaded, net, but="pos_embed")


# What is refused.


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"depths": (1, 1, 4, 2)}, [" missing (", ", ...)", "qkv.weight"]),
        ({"depths": (1, 1, 3, 1)}, [" unknown (", "levels.3.blocks.1."]),
        (
            {"mlp_ratio": 3},
            ["of another shape (levels.2.blocks.0.mlp.fc1.weight (32, 16) instead of"],
        ),
        ({"layer_scale": 0.1}, ["10 missing (levels.2.blocks.0.gamma_1"]),
        (
            {"in_chans": 1},
            ["(4, 1, 3, 3)); it takes 3 channels: data.in_chans=3; choose the model"],
        ),
    ],
)
def test_checkpoint_of_another_variant_is_refused_with_its_keys(options, parts, tmp_path, refusal):
    torch.save(make_toy().state_dict(), tmp_path / "a.pth")
    message = refusal(lambda: make_toy(**options, pretrained=str(tmp_path / "a.pth")))
    for part in ["a.pth: does not fit the network", *parts]:
        assert part in message
    assert len(message) < 700


def test_checkpoint_of_another_family_is_refused(tmp_path, refusal):
    torch.save(make_plain().state_dict(), tmp_path / "a.pth")
    message = refusal(lambda: make_toy(pretrained=str(tmp_path / "a.pth")))
    assert "these are no weights of MambaVision: 'patch_embed.conv_down.0.weight'" in message


@pytest.mark.parametrize("suffix", [".pth.tar", ".safetensors", ".ckpt"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_checkpoint_is_refused(suffix, share, tmp_path, refusal):
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(make_toy().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(lambda: make_toy(pretrained=str(path)))
    assert f"a{suffix} is no checkpoint, is damaged, or holds more than weights (" in message


def test_flipped_bit_is_refused(tmp_path, refusal):
    path = tmp_path / "a.pth"
    torch.save(make_toy().state_dict(), path)
    content = bytearray(path.read_bytes())
    at = content.index(make_toy().norm.weight.detach().numpy().tobytes())  # ones
    content[at + 2] ^= 1
    path.write_bytes(content)
    assert torch.load(path)  # in silence
    message = refusal(lambda: make_toy(pretrained=str(path)))
    assert "a.pth is damaged (a/data/" in message
    assert "copy or download it again" in message


def test_values_that_are_not_finite_are_refused(net, tmp_path, refusal):
    net.state_dict()["levels.2.blocks.0.norm1.bias"][3] = float("nan")
    torch.save(net.state_dict(), tmp_path / "a.pth")
    message = refusal(lambda: make_toy(pretrained=str(tmp_path / "a.pth")))
    assert "levels.2.blocks.0.norm1.bias holds values that are not finite" in message


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("layout", ["archive", "old archive", "pickle"])
def test_hostile_pickle_does_not_run(layout, tmp_path, refusal):
    path, trace = tmp_path / "a.pth", tmp_path / "trace"
    content = {"state_dict": make_toy().state_dict(), "args": Hostile(str(trace))}
    if layout == "pickle":
        path.write_bytes(pickle.dumps(Hostile(str(trace)), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "archive")
    assert "nothing in it was run" in refusal(lambda: make_toy(pretrained=str(path)))
    assert not trace.exists()


@pytest.mark.parametrize("source", ["nowhere.pth", "a/b/c", "./folder", "some/weights.safetensors"])
def test_missing_file_is_refused_without_asking_the_hub(source, monkeypatch, refusal):
    monkeypatch.setattr(weights_file, "download_file", lambda *_: pytest.fail("asked"))
    assert f"pretrained={source}: no such file; wanted" in refusal(
        lambda: make_toy(pretrained=source)
    )


# Rebuilding, and memory.


def test_network_with_a_checkpoint_to_follow_does_not_need_its_pretrained_weights(refusal):
    target = "mambavision_lab.models.hierarchical.MambaVision"
    sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in HIERARCHICAL_TOY.items()}
    model = {"_target_": target, **sizes, "pretrained": "gone.pth"}
    cfg = OmegaConf.create({"model": model, "ckpt_path": None})
    assert "gone.pth: no such file" in refusal(lambda: build_net(cfg))
    cfg.ckpt_path = "best.ckpt"
    assert isinstance(build_net(cfg), MambaVision)


MEMORY = """
import re, sys, time, torch
from mambavision_lab.models.create import create_mambavision
start = time.perf_counter()
with torch.device("meta"):
    net = create_mambavision(sys.argv[1])
seconds = time.perf_counter() - start
# Not getrusage, whose peak is handed down by the process that started this one.
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
weights = 4 * sum(p.numel() for p in net.parameters())
net = create_mambavision(sys.argv[1], pretrained=sys.argv[2] if len(sys.argv) > 2 else None)
print(seconds, peak() / weights)
"""


def memory_of(*arguments):
    """Return seconds to build on the meta device, and a process's peak memory over the weights."""
    shown = subprocess.run(
        [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True
    )
    return [float(number) for number in shown.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count mapped files otherwise")
@pytest.mark.parametrize("suffix", ["", ".pth.tar", ".safetensors"])
def test_largest_network_needs_little_more_memory_than_its_weights(suffix, tmp_path):
    variant, given = "nvidia/mambavision_l3", []
    if suffix:
        with torch.device("meta"):
            net = create_mambavision(variant)
        state = {key: torch.zeros(x.shape, dtype=x.dtype) for key, x in net.state_dict().items()}
        given = [str(tmp_path / f"weights{suffix}")]
        (save_file if suffix == ".safetensors" else torch.save)(state, given[0])
        del state
    seconds_on_meta, ratio = memory_of(variant, *given)
    assert ratio < 1.3
    assert seconds_on_meta < 2  # promised to users; it takes a tenth of that
