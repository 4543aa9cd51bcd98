"""Random configs, right and wrong: each passes a run of one batch, or ends with status 2 and one line.

Each attempt chooses a task and some choices of its groups, changes some values of the composed config, and
runs the command. A run whose loss is no longer finite, as with a huge learning rate, may fail with one line.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.torture.forked import Ended, run_command, warm_up
from benchmarks.torture.outcome import Outcome, count_held
from PIL import Image

COUNT = 1000
_TINY = [
    *("trainer=debug", "scheduler.warmup_epochs=0", "data.batch_size=4", "data.num_workers=0"),
    "data.image_size=32",
]
_SYNTHETIC = ["data.num_train=40", "data.num_val=20", "data.num_test=20"]
_MODELS = ["mambavision_nano", "mambavision_micro"]
_GROUPS = {
    "augment": ["none", "light", "randaugment", "trivial", "three_augment", "imagenet"],
    "callbacks": ["default", "ema", "ema_mesa", "early_stopping", "freeze", "none"],
    "loss": ["cross_entropy", "bce"],
    "model": _MODELS,
    "multi_scale": ["none", "random", "progressive"],
    "optimizer": ["adamw", "lamb", "lion", "muon", "sgd"],
    "scheduler": ["constant", "cosine", "linear", "onecycle", "wsd"],
    "tta": ["none", "flip", "shift", "crops", "flip_shift"],
    "logger": ["csv", "tensorboard", "none"],
    "data": ["synthetic", "digits", "image_folder"],
    "trainer": ["debug"],
}
_OF_TASK = {"train": None, "preview": {"data", "augment"}, "analyze": {"model"}}
_VALUES = [
    *("null", "true", "abc", "''", "[]", "{}", "[1,2]", "{a:1}", "-1", "0", "1", "2", "7", "0.5"),
    *("-0.5", "1.5", "1e-3", "1e30", "nan", "inf", "-inf", "${seed}", "${nowhere}", "???", "auto"),
]
_KEEP = ("paths.", "hydra.", "ops.", "sweep.", "name", "_target_")  # elsewhere, or code


def run(*, seed: int, count: int) -> list[Outcome]:
    """Run count random configs."""
    warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_images(folder / "images")
        results = []
        for number in range(count):
            task, arguments = _choose(random.Random(f"{seed}-{number}"), folder / "images")
            command = f"{task}.py {' '.join(arguments)}"
            where = f"paths.log_dir={folder}/logs"
            given = [*arguments, where] if task != "analyze" else arguments
            ended = run_command(task, *given, timeout_s=120)
            failure = None if _has_diverged(ended) else ended.explain()
            results.append(failure and f"#{number} {command}: {failure}")
            if failure:
                print(results[-1], flush=True)
    return [count_held("runs, or refuses in one line", results)]


def _has_diverged(ended: Ended) -> bool:
    return ended.status == 1 and len(ended.errors) == 1 and "lower optimizer.lr" in ended.output


def _choose(rng: random.Random, images: Path) -> tuple[str, list[str]]:
    """Choose a task and its arguments."""
    task = rng.choices(["train", "preview", "analyze"], [8, 1, 1])[0]
    known = _OF_TASK[task]
    groups = [g for g in _GROUPS if known is None or g in known]
    chosen = {
        group: rng.choice(_GROUPS[group])
        for group in rng.sample(groups, rng.randint(0, min(3, len(groups))))
    }
    if task == "analyze":
        arguments = [f"model={chosen.get('model', 'mambavision_nano')}", "data.image_size=32"]
    else:
        arguments = [f"{group}={choice}" for group, choice in chosen.items() if group != "trainer"]
        data = chosen.get("data", "synthetic")
        arguments += [x for x in _TINY if task == "train" or x.startswith("data.")]
        arguments += _SYNTHETIC if data == "synthetic" else []
        arguments += [f"data.root={images}"] if data == "image_folder" else []
        if chosen.get("multi_scale", "none") != "none":
            arguments.append("multi_scale.sizes=[16,32]")
        arguments += ["num_scanned=20", "num_images=4"] if task == "preview" else []
        if "scheduler" in chosen and chosen["scheduler"] in ("onecycle", "constant"):
            arguments.remove("scheduler.warmup_epochs=0") if task == "train" else None
    leaves = sorted(_leaves(task, arguments))
    if not leaves:
        return task, arguments
    return task, arguments + [_mutate(rng, *rng.choice(leaves)) for _ in range(rng.randint(0, 3))]


def _leaves(task: str, arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Yield keys and values of the composed config, as text."""
    from omegaconf import OmegaConf

    from mambavision_lab.config.compose import Composer, package_source, without_hydra

    cfg = without_hydra(Composer(package_source(task), task).compose(arguments))

    def walk(node: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict) and node:
            for key, child in node.items():
                yield from walk(child, f"{path}.{key}" if path else str(key))
        elif not path.startswith(_KEEP) and not path.endswith("_target_"):
            yield path, str(node)

    yield from walk(OmegaConf.to_container(cfg), "")


def _mutate(rng: random.Random, key: str, value: str) -> str:
    """Change one value: to another kind, to one near it, to none, or to one of a wrong name."""
    kind = rng.random()
    if kind < 0.1:
        return f"~{key}"
    if kind < 0.2:
        name = rng.choice(["nothing", "lr", "name"])
        return f"+{key.rpartition('.')[0] or 'data'}.{name}={rng.choice(_VALUES)}"
    if kind < 0.25:
        return f"{key}x={value.split()[0] if value.split() else 1}"
    try:
        number = float(value)
    except ValueError:
        return f"{key}={rng.choice(_VALUES)}"
    near = [number * 2, -number, number / 2, number + 1, number - 1]
    text = str(rng.choice(near)).removesuffix(".0")
    return f"{key}={text if rng.random() < 0.5 else rng.choice(_VALUES)}"


def _make_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, number in (("train", 6), ("val", 4), ("test", 4)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")
