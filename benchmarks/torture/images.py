"""Damaged images and archives through the data modules: each is read, or refused in one line.

No crash, no hang, and no more memory beyond that of good files than twice what the largest image that Pillow
takes has in pixels.
"""

import os
import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.torture.forked import Ended, run_forked, warm_up
from benchmarks.torture.outcome import Outcome, count_held
from benchmarks.torture.samples import SAMPLES
from PIL import Image

COUNT = 500
SHORT = 30
_TIMEOUT_S = 60
_LIMIT_MB = 3 * (Image.MAX_IMAGE_PIXELS or 0) / 2**20  # of an RGB image
_SETTINGS = {"batch_size": 2, "num_workers": 0, "image_size": 16}


def run(*, seed: int, count: int) -> list[Outcome]:
    """Read count damaged files, each by one data module and among good ones."""
    warm_up()
    results: dict[str, list[str | None]] = {name: [] for name in SAMPLES}
    peak = 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder  # where datasets keeps what it reads
        sound = _read_in_child(
            *SAMPLES["image_folder"](random.Random(0), Path(folder, "good"), False)
        )
        for number in range(count):
            rng = random.Random(f"{seed}-{number}")
            name = rng.choice([*SAMPLES])
            root = Path(folder, str(number))
            ended = _read_in_child(*SAMPLES[name](rng, root, True))
            failure, more = ended.explain(), ended.peak_mb - sound.peak_mb
            peak = max(peak, more)
            if more > 2 * _LIMIT_MB:
                failure = f"took {more:.0f} MB"
            results[name].append(failure and f"#{number}: {failure}")
            if failure:
                print(f"{name} #{number}: {failure}", flush=True)
    measured = f"at most {peak:.0f} MB beyond good files"
    return [
        count_held(f"{name} reads or refuses", found, measured) for name, found in results.items()
    ]


def _read_in_child(name: str, settings: dict[str, Any]) -> Ended:
    def read() -> None:
        from mambavision_lab.data.create import create_datamodule
        from mambavision_lab.errors import ConfigError, refuse

        try:
            data = create_datamodule(name, **{**_SETTINGS, **settings})
            data.setup("fit")
            for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
                for batch in loader:
                    data.prepare_batch(batch)
        except ConfigError as error:
            refuse(error)

    return run_forked(read, _TIMEOUT_S)
