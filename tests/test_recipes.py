"""Dress rehearsals: every recipe for folders of images runs to its end on a generated one, made small."""

import csv
import json

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from mambavision_lab.files import configs_folder

pytestmark = pytest.mark.slow

RECIPES = sorted(p.stem for p in (configs_folder() / "experiment").glob("imagenet_*.yaml"))
SMALL = (
    "data.num_classes=2 data.batch_size=4 data.global_batch_size=8 data.image_size=64 "
    "data.val_fraction=0.2 data.num_workers=0 trainer=cpu trainer.precision=32-true trainer.max_epochs=4 "
    "trainer.limit_val_batches=1 trainer.limit_test_batches=1 scheduler.warmup_epochs=1 logger=csv "
    "trainer.log_every_n_steps=1"
).split()
TINY = {
    "hierarchical": "model.dim=8 model.in_dim=8 model.depths=[1,1,2,2] model.num_heads=[1,1,2,2]",
    "plain": "model.embed_dim=32 model.depth=2 model.num_heads=2 model.stem_dim=8",
}


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A folder like ImageNet's: ten training and two validation images of each of two classes."""
    root = tmp_path_factory.mktemp("imagenet")
    for label, name in enumerate(("n01440764", "n01443537")):
        for split, num in (("train", 10), ("val", 2)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(num):
                color = (80 + 90 * label, 10 * k, 200 - 90 * label)
                Image.new("RGB", (90, 70), color).save(folder / f"{name}_{k}.JPEG")
    return root


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_runs_to_its_end(recipe, imagenet, call, tmp_path):
    plain = recipe.endswith(("small", "base"))
    cooldown = [] if plain else ["scheduler.cooldown_epochs=1"]
    status, out, err = call(
        "train", f"experiment={recipe}", f"data.root={imagenet}", *SMALL, *cooldown,
        *TINY["plain" if plain else "hierarchical"].split(), f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert status == 0, err
    assert "batch 4 x 2 accumulated = 8 images per step, Lamb" in out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test/num_images"] == 4
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rates = [float(x) for row in csv.DictReader(file) if (x := row.get("lr-Lamb/pg1"))]
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    factor = (8 / config.classifier.lr_batch_size) ** 0.5
    assert max(rates) == pytest.approx(config.optimizer.lr * factor)
    if not plain:  # the cool-down
        assert rates[-1] == pytest.approx(
            config.optimizer.lr * factor * config.scheduler.min_lr_ratio
        )


@pytest.mark.parametrize(
    ("experiment", "model"),
    [
        ("finetune", "mambavision_micro"),
        ("finetune_mambavision_t", "nvidia/mambavision_t"),
    ],
)
def test_finetuning_starts_from_weights_of_other_classes(
    experiment, model, imagenet, call, tmp_path
):
    config = OmegaConf.load(configs_folder() / "model" / f"{model}.yaml")
    given = {"num_classes": 1000, "in_chans": 3, "scan_backend": "auto"}
    net = instantiate(config, **given)
    weights = tmp_path / "published.pth.tar"
    torch.save({"state_dict": net.state_dict()}, weights)  # as NVIDIA publishes its own
    status, out, err = call(
        "train", f"experiment={experiment}", f"model={model}", "data=image_folder",
        f"data.root={imagenet}", f"model.pretrained={weights}", "data.image_size=32",
        *"data.batch_size=4 data.num_workers=0 trainer=cpu trainer.max_epochs=2".split(),
        f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert status == 0, err
    assert "epoch 2/2" in out
    start = net.state_dict()
    trained = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    moved = {
        name: float((x - start[name.removeprefix("net.")]).abs().max())
        for name, x in trained["state_dict"].items()
        if name.endswith("conv_down.0.weight") or name.endswith("mlp.fc1.weight")
    }
    assert moved
    assert all(0 < distance < 0.05 for distance in moved.values()), moved
