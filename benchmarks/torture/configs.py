"""Random configs, right and wrong: each passes a run of one batch, or ends with status 2 and one line.

Each attempt chooses a task and some choices of its groups, changes some values of the composed config, and
runs the command, or checks it where its data would be downloaded or its network is large.
"""

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

from benchmarks.torture.choices import choose, write_samples
from benchmarks.torture.forked import Ended, run_command, warm_up
from benchmarks.torture.outcome import Outcome, count_held
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config.compose import without_hydra
from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.command_line import parse_command
from mambavision_lab.launch.prepared import open_command

COUNT = 1000
SHORT = 5
_VALUES = [
    *("null", "true", "abc", "''", "[]", "{}", "[1,2]", "{a:1}", "-1", "0", "1", "2", "7", "0.5"),
    *("-0.5", "1.5", "1e-3", "1e30", "nan", "inf", "-inf", "${seed}", "${nowhere}", "???", "auto"),
]
_HYDRA = [
    "hydra.verbose",
    "hydra.job.chdir",
    "hydra.run.dir",
    "hydra/launcher",
    "hydra/job_logging",
]
# A teacher that is no file is a name of timm's, whose weights would be downloaded.
_KEPT = ("loss.teacher.source", "model.pretrained")


def run(*, seed: int, count: int) -> list[Outcome]:
    """Run count random configs."""
    warm_up()
    os.environ |= {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    # What a config names relatively is written there.
    with tempfile.TemporaryDirectory() as name, chdir(name):
        folder = Path(name)
        os.environ["HF_HOME"] = str(folder / "hf")
        samples, trained = write_samples(folder / "samples"), _train(folder)
        results: list[str | None] = []
        ways: Counter[str] = Counter()
        for number in range(count):
            rng = random.Random(f"{seed}-{number}")
            images = folder / "samples" / "image_folder" / "test"
            task, arguments = choose(rng, samples, trained, images)
            leaves = sorted(_leaves(task, arguments))
            for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
                arguments += [_mutate(rng, *rng.choice(leaves))] if leaves else []
            ended = run_command(task, *arguments, f"paths.log_dir={folder}/logs", timeout_s=120)
            ways[_way(ended, arguments)] += 1
            failure = ended.explain()
            results.append(failure and f"#{number} {task}.py {' '.join(arguments)}: {failure}")
            if failure:
                print(results[-1], flush=True)
    detail = ", ".join(f"{n} {way}" for way, n in sorted(ways.items()))
    print(detail, flush=True)
    return [count_held("runs, or refuses in one line", results, detail)]


def _way(ended: Ended, arguments: list[str]) -> str:
    if ended.status == 0:
        return "checked" if "check=true" in arguments else "ran"
    return "refused" if ended.status == 2 else "failed"


def _train(folder: Path) -> Path:
    """Train a network for the tasks that start from one; returns its run folder."""
    small = [
        "trainer=debug",
        "scheduler.warmup_epochs=0",
        "data.image_size=32",
        "data.batch_size=4",
    ]
    ended = run_command("train", *small, f"paths.log_dir={folder}/trained", timeout_s=300)
    if ended.status != 0:
        raise SystemExit(ended.output)
    return (folder / "trained" / "latest").resolve()


def _leaves(task: str, arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Yield keys and values of the composed config, as text; none where it cannot be composed."""
    given = [x for x in arguments if x != "-m" and not x.startswith("seed=")]
    try:
        prepared = open_command(parse_command(task, [task, *given]))
        cfg = without_hydra(prepared.composer.compose(prepared.overrides))
    except (ConfigError, HydraException, OmegaConfBaseException):
        return

    def walk(node: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict) and node:
            for key, child in node.items():
                yield from walk(child, f"{path}.{key}" if path else str(key))
        elif path not in _KEPT:
            yield path, str(node)

    yield from walk(OmegaConf.to_container(cfg), "")


def _mutate(rng: random.Random, key: str, value: str) -> str:
    """Change one value: to another kind, to one near it, to none, or to one of a wrong name."""
    kind = rng.random()
    if kind < 0.03:
        return f"{rng.choice(_HYDRA)}={rng.choice(_VALUES)}"
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
