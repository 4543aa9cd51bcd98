"""The entry points with bad input: one line that says what was wrong, exit status 2, and nothing run."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

BAD_COMMANDS = {
    "train trainer.devcies=2": "trainer.devcies: no such option; did you mean 'devices'?",
    "train trainer.max_epochs=abc": "trainer.max_epochs=abc: wanted int or None, got str 'abc'",
    "train optimizer.lr=fast": "optimizer.lr=fast: wanted float, got str 'fast'",
    "train model=mambavision_smal": "did you mean 'mambavision_small'?",
    "train +model.widht=3": "model.widht: PlainMambaVision has no option 'widht'",
    "train optimizer.betas=[-1,0.9]": "optimizer.betas=[-1, 0.9]: wanted numbers from 0 up to",
    "train optimizer.weight_decay=-1": "optimizer.weight_decay=-1: wanted 0 or more",
    "train seed=abc": "seed: Value 'abc'",
    "train seed=-1": "seed=-1: wanted a whole number from 0",
    "train data.seed=-1": "data.seed=-1: wanted a whole number from 0",
    "train trainer.devices=0 trainer=cpu": "trainer: ",
    "train frobnicate": "wanted key=value",
    "train --frobnicate seed=1": "--frobnicate: no such flag; see --help",
    "train --cfg jbo": "invalid choice: 'jbo'",
    "train -m seed=1,2 --cfg job": "check=true",
    "train data=image_folder": "data.root is missing; give data.root=VALUE",
    "train data=image_folder data.root=/no/such": "data.root=/no/such: no such folder",
    "train data=image_folder data.root={tmp}/bare": "holds no class folders",
    "train data=image_folder data.root={tmp}/hollow": "train/cat: holds no images",
    "train data=image_folder data.root={tmp}/odd": "classes ['fox'] are not among the 2 training",
    "train model.num_classes=5": "model.num_classes=5, but the data have 10 classes",
    "train model.patch_size=16 data.image_size=40": "the next sizes that fit are 32 x 32 and 48 x 48",
    "train model=nvidia/mambavision_t data.image_size=3": "at least the stem's stride, 4; enlarge",
    "train model=nvidia/mambavision_t model.pretrained={tmp}/junk.ckpt": "junk.ckpt is no checkpoint",
    "train model=nvidia/mambavision_t model.pretrained={tmp}/none.pth": "none.pth: no such file or folder;",
    "train model=timm model.name=resnet51": "timm has no such model; did you mean 'resnet5",
    "train experiment=finetune": "model.pretrained is missing; give model.pretrained=VALUE, the file,",
    "train model.num_heads=7": "num_heads=7 does not divide the width 96",
    "train data.num_classes=3 data=digits": "data.num_classes=3, but the data have 10 classes",
    "train trainer=cpu trainer.devices=two": "wanted a number of devices, a list such as [0,1], or auto",
    "train launcher.max_restarts=-1": "launcher.max_restarts=-1: wanted 0 or more",
    "train trainer=cpu trainer.sync_batchnorm=true": "on CUDA GPUs only; choose trainer.sync_batchnorm=false",
    "train trainer=ddp_multinode": "several nodes need a launcher on each; use srun",
    "train classifier.scale_lr=foo": "scale_lr=foo is unknown; choose linear, sqrt or null",
    "train trainer=gpu": "no GPU can be used here",
    "train optimizer.lr=1,2": "several values need a sweep; add -m",
    "train optimized_metric=val/acc9": "choose one of val/loss, val/acc1",
    "train scheduler.warmup_epochs=99": "lower it or raise trainer.max_epochs",
    "train optimizer.betas=[0.9,1.5]": "optimizer.betas=[0.9, 1.5]: wanted numbers from 0",
    "train trainer.limit_test_batches=0.01": "less than one of the 32 batches; give a whole number",
    "train callbacks.checkpoint.monitor=val/acc": "monitor=val/acc: there is no such metric in training",
    "train ckpt_path={tmp}/none.ckpt": "none.ckpt: no such file",
    "train ckpt_path={tmp}/junk.ckpt": "junk.ckpt: is no checkpoint",
    "train ckpt_path={tmp}/tensor.ckpt": "tensor.ckpt: holds no state_dict",
    "eval": "ckpt_path is missing",
    "eval ckpt_path={tmp}/none.ckpt": "none.ckpt: no such file",
    "eval ckpt_path={tmp}/junk.ckpt": "junk.ckpt: no run folder around it",
}


@pytest.fixture(scope="module")
def bad_things(tmp_path_factory) -> Path:
    """Folders and files with something wrong about them."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("bare", "hollow/train/cat", "hollow/train/dog"):
        (folder / name).mkdir(parents=True)
    for name in ("train/cat", "train/dog", "val/fox"):
        (folder / "odd" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "odd" / name / "1.png")
    (folder / "junk.ckpt").write_bytes(b"not a checkpoint")
    torch.save(torch.zeros(2), folder / "tensor.ckpt")
    return folder


@pytest.mark.parametrize("command", BAD_COMMANDS)
def test_bad_input_is_answered_in_one_line(call, logs, bad_things, command):
    if command == "train trainer=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    status, _, err = call(*command.format(tmp=bad_things).split())
    lines = [line for line in err.splitlines() if line]
    assert status == 2
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert BAD_COMMANDS[command] in lines[0]
    runs = list(logs.rglob("metrics.json"))
    assert not runs


def test_checkpoint_that_would_run_code_does_not(call, logs, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    torch.save({"state_dict": Hostile(), "hyper_parameters": {}}, tmp_path / "hostile.ckpt")
    status, _, err = call("train", f"ckpt_path={tmp_path}/hostile.ckpt")
    assert status == 2
    assert "is no checkpoint" in err
    assert not (tmp_path / "pwned").exists()
