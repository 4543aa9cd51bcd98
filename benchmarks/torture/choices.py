"""Random commands: a task, choices of the groups of `configs/`, and what those need to be small."""

import random
from pathlib import Path

from benchmarks.torture.samples import SAMPLES

from mambavision_lab.files import list_choices

# How often each task is tried. serve and demo run until they are stopped, so they are checked only.
TASKS = {
    **{"train": 60, "eval": 6, "predict": 6, "export": 6, "explain": 5, "analyze": 6, "preview": 6},
    **{"serve": 3, "demo": 2},
}
_CHECKED_ONLY = {"serve", "demo"}
_OF_RUN = {"eval", "predict", "export", "explain", "serve", "demo"}  # start from a trained network
_GROUPS = {
    "train": [
        *("augment", "callbacks", "data", "experiment", "logger", "loss", "model", "multi_scale"),
        *("optimizer", "scheduler", "sweep", "trainer", "tta"),
    ],
    "eval": ["callbacks", "data", "logger", "trainer", "tta"],
    "export": ["export"],
    "analyze": ["model"],
    "preview": ["data", "augment"],
}
_GENERATED = ["data.num_train=40", "data.num_val=20", "data.num_test=20"]
_VOLUMES = [*_GENERATED, "data.num_slices=8", "model=mambavision_nano_3d"]
# What makes a choice of a training small; the data sets that are written for it are added where they lie.
_SMALL = {
    "data=synthetic": _GENERATED,
    "data=synthetic_volumes": _VOLUMES,
    "data=synthetic_clips": _VOLUMES,
    "model=mambavision_nano_3d": ["data=synthetic_volumes", *_GENERATED, "data.num_slices=8"],
    "model=timm": ["model.name=resnet10t"],
    **{f"scheduler={x}": ["scheduler.warmup_epochs=0"] for x in ("cosine", "linear", "wsd")},
    "multi_scale=random": ["multi_scale.sizes=[16,32]"],
    "multi_scale=progressive": ["multi_scale.sizes=[16,32]"],
}
_LARGE = ("base", "_l", "_b", "_s", "_t2", "small", "resnet50", "vit_small", "_t_3d")  # networks
_DOWNLOADED = ("data=cifar10", "data=cifar100")  # their checksums are known: no sample can be made


def write_samples(folder: Path) -> dict[str, list[str]]:
    """Write a small data set for each data module that reads files; returns its settings by `data=NAME`."""
    found = {}
    for kind in ("image_folder", "imagenet", "webdataset", "hf", "medmnist", "fashion_mnist"):
        name, settings = SAMPLES[kind](random.Random(kind), folder / kind, False)
        options = [f"data.{key}={_to_text(value)}" for key, value in settings.items()]
        found[f"data={name}"] = options
    return found


def choose(
    rng: random.Random, samples: dict[str, list[str]], run: Path, images: Path
) -> tuple[str, list[str]]:
    """Choose a task and its arguments, right so far; check=true is one of them where a run would be large.

    Args:
        rng: Chooses.
        samples: Of `write_samples`.
        run: Folder of a trained network, for the tasks that start from one.
        images: A folder of images for them.
    """
    (task,) = rng.choices([*TASKS], [*TASKS.values()])
    groups = _GROUPS.get(task, [])
    names = rng.sample(groups, rng.randint(0, min(3, len(groups))))
    chosen = [f"{name}={rng.choice(list_choices(name))}" for name in names]
    known = {**_SMALL, **samples} if task == "train" else samples
    small = [option for choice in chosen for option in known.get(choice, [])]
    if task == "train" and "data" not in names and "experiment" not in names:
        small += _GENERATED
    arguments = [*chosen, *small, *_frame(task, names, run, images)]
    if task == "train" and "sweep" in names:
        arguments += ["-m", f"seed=1,{rng.randint(2, 9)}", "check=true"]
    elif task in _CHECKED_ONLY or any(map(_is_large, chosen)):
        arguments.append("check=true")
    return task, arguments


def _frame(task: str, groups: list[str], run: Path, images: Path) -> list[str]:
    """Give what every command of a task needs to be short."""
    if task in _OF_RUN:
        own = {"predict": [f"images={images}"], "eval": ["trainer.limit_test_batches=1"]}
        return [f"from_run={run}", *own.get(task, [])]
    if task == "analyze":
        return ["data.image_size=32", *([] if "model" in groups else ["model=mambavision_nano"])]
    if task == "preview":
        return ["data.image_size=32", "num_scanned=20", "num_images=4"]
    trainer = [] if "trainer" in groups else ["trainer=debug"]
    limits = [f"trainer.limit_{phase}_batches=1" for phase in ("train", "val", "test")]
    size = [] if "experiment" in groups else ["data.image_size=32"]
    warm_up = [] if {"scheduler", "experiment"} & {*groups} else ["scheduler.warmup_epochs=0"]
    small = ["data.batch_size=4", "data.num_workers=0", "trainer.max_epochs=1"]
    return [*trainer, *limits, *small, *size, *warm_up]


def _is_large(choice: str) -> bool:
    group, _, name = choice.partition("=")
    is_network = group == "model" and any(part in name for part in _LARGE)
    return is_network or group == "experiment" or choice in _DOWNLOADED


def _to_text(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
