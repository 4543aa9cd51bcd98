"""eval.py on folders of images: which images it takes, and how many."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.digits import DigitsDataModule
from mambavision_lab.data.image_folder import ImageFolderDataModule
from mambavision_lab.data.volume_folder import VolumeFolderDataModule
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.timm_classifier import timm_classifier
from mambavision_lab.tasks import evaluate, evaluated

STORED = Path(__file__).parents[1] / "runs" / "stored_run"
SETTINGS = {"image_size": 8, "in_chans": 3, "num_classes": 2, "mean": [0.5], "std": [0.25]}


def write(folder, class_names, num):
    for name in class_names:
        (folder / name).mkdir(parents=True)
        for i in range(num):
            Image.new("RGB", (9, 9), (20 * i, 0, 0)).save(folder / name / f"{i}.png")
    return folder


def test_evaluation_takes_all_images_of_another_folder_by_class_name(call, tmp_path):
    run = shutil.copytree(STORED, tmp_path / "stored")
    write(tmp_path / "new" / "test", ["triangle-plain", "bar-plain"], 3)
    folder = f"data=image_folder data.root={tmp_path}/new data.image_size=32 data.num_workers=0"
    given = (f"from_run={run}", "trainer=cpu", *folder.split())
    status, out, err = call("eval", *given)
    assert status == 0, err
    assert "data.image_size" not in err
    assert "32 x 32, trained with 16" in out
    (file,) = (tmp_path / "logs" / "eval").rglob("metrics.json")
    metrics = json.loads(file.read_text())
    assert metrics["test/num_images"] == 6
    assert "6 images, all of" in out
    assert "2 of the network's 3" in out

    write(tmp_path / "new" / "test", ["dog", "eel"], 1)
    status, _, err = call("eval", *given)
    assert status == 2
    assert "classes that the network does not know: ['dog', 'eel']" in err


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """Choose the images of an evaluation of a run on tmp_path/own; returns their number and description."""

    def call(root, use_all=None):
        name = "mambavision_lab.data.image_folder.ImageFolderDataModule"
        (tmp_path / "data").mkdir(exist_ok=True)
        trained = {"_target_": name, "root": str(tmp_path / "own")}
        OmegaConf.save(OmegaConf.create(trained), tmp_path / "data" / "as_trained.yaml")
        monkeypatch.setattr(evaluate, "find_snapshot_around", lambda path: tmp_path)
        data = ImageFolderDataModule(root=str(root), **SETTINGS)
        cfg = {
            "data": {"_target_": name, "root": str(root)},
            "use_all_images": use_all,
        }
        source = evaluate._choose_images(OmegaConf.create(cfg), data, Path("x"))
        return len(data.splits.test), source

    return call


def test_evaluation_of_the_runs_own_folder_takes_what_was_held_out(choose, tmp_path):
    own = write(tmp_path / "own", ["ant", "bee"], 10)
    (tmp_path / "link").symlink_to(own)
    assert choose(own) == (2, f"held out of {own}")
    assert choose(tmp_path / "link")[0] == 2
    assert choose(own, use_all=True) == (20, f"all of {own}")


def test_evaluation_of_a_moved_folder_warns_of_training_images(choose, tmp_path, caplog):
    moved = write(tmp_path / "moved", ["ant", "bee"], 10)
    assert choose(moved)[0] == 20
    (message,) = caplog.messages
    assert "use_all_images=false" in message
    assert choose(moved, use_all=False) == (2, f"held out of {moved}")


def test_evaluation_refuses_all_images_of_data_without_a_folder(refusal):
    data = DigitsDataModule(**{**SETTINGS, "num_classes": 10})
    cfg = OmegaConf.create({"use_all_images": True})
    assert "choose data=image_folder" in refusal(
        lambda: evaluate._choose_images(cfg, data, Path("x"))
    )
    data = create_datamodule("synthetic_segmentation_3d")
    assert "choose data=mask_folder_3d" in refusal(
        lambda: evaluate._choose_images(cfg, data, Path("x"))
    )


@pytest.mark.parametrize(
    ("changed", "given", "warned"),
    [
        ({}, [], []),
        ({"value_range": None}, [], ["data.value_range=None, but the run was trained with"]),
        ({"value_range": None}, ["data.value_range=null"], []),
        ({"spacing": 2, "slices": "middle"}, [], ["data.slices=middle", "data.spacing=[2.0"]),
    ],
)
def test_evaluation_warns_of_what_the_data_prepare_otherwise(
    tmp_path, monkeypatch, caplog, changed, given, warned
):
    for name in ("calm", "rough"):
        (tmp_path / name).mkdir()
        for k in range(3):
            np.save(tmp_path / name / f"{k}.npy", np.zeros((4, 8, 8), np.uint8))

    def make(**settings):
        own = {**SETTINGS, "in_chans": 1, "num_slices": 4, "spacing": [3, 1, 1]}
        return VolumeFolderDataModule(
            root=str(tmp_path), **own | {"value_range": [-160, 240]} | settings
        )

    monkeypatch.setattr(evaluate, "given_overrides", lambda: given)
    evaluate._compare_preprocessing(make(**changed), make().metadata())
    assert len(caplog.messages) == len(warned)
    assert all(words in message for words, message in zip(warned, caplog.messages, strict=True))


class Images:
    """As much of a data module as a network has to fit."""

    def __init__(self, image_size, in_chans=1):
        self.image_size, self.in_chans = image_size, in_chans
        self.sides = (image_size, image_size)


SMALL = {"num_classes": 3, "in_chans": 1}
NETWORKS = {
    "plain": lambda make_net: make_net(in_chans=1),
    "hierarchical": lambda _: MambaVision(
        dim=8, in_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=[4, 4, 2, 2],
        **SMALL,
    ),
    "vit": lambda _: timm_classifier(name="vit_tiny_patch16_224", image_size=16, **SMALL),
    "resnet": lambda _: timm_classifier(name="resnet18", image_size=16, **SMALL),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_takes_images_of_another_size(name, make_net):
    net = NETWORKS[name](make_net).eval()
    evaluate._fit_to_size(net, Images(32))
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_evaluation_refuses_a_size_that_the_network_does_not_take(make_net, refusal):
    message = refusal(lambda: evaluate._fit_to_size(make_net(in_chans=1), Images(33)))
    assert message.startswith("data.image_size=33: ")
    assert "multiples of the patch size" in message
    fixed = timm_classifier(name="mixer_s16_224", image_size=32, **SMALL)
    message = refusal(lambda: evaluate._fit_to_size(fixed, Images(64)))
    assert message.startswith("data.image_size=64: MlpMixer does not take images of 64 x 64 pixels")


def test_exported_file_says_how_volumes_are_prepared(monkeypatch):
    stored = {"image_size": 8, "in_chans": 1, "mean": [0.5], "std": [0.2], "background": [0, 0, 0]}
    stored |= {"spacing": [3.0, 1.0, 1.0], "value_range": [-160.0, 240.0], "num_slices": 4}
    described = {"preprocessing": stored, "class_names": ["calm", "rough"]}
    monkeypatch.setattr(evaluated, "load_network", lambda *_: (described, None, None))
    monkeypatch.setattr(evaluated, "given_overrides", lambda: ["data.num_slices=6"])
    own = {"image_size": 64, "in_chans": 1, "mean": [0], "std": [1], "num_slices": 6}
    own |= {"spacing": None, "value_range": None, "slices": "all"}
    cfg = OmegaConf.create({"model_file": "x.onnx", "data": own})
    evaluated.ExportedNetwork(cfg)
    kept = {"slices": "all", "num_slices": 6}
    assert cfg.data == {k: x for k, x in stored.items() if k != "background"} | kept
