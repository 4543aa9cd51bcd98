"""A callback for the tests: every rank writes down what it was given."""

import json
from pathlib import Path

from lightning.pytorch import Callback


class RankProbe(Callback):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_start(self, trainer, pl_module):
        facts = {
            "lr": trainer.optimizers[0].defaults["lr"],
            "hyper_parameters": repr(dict(pl_module.hparams)),
        }
        path = Path(self.folder) / f"rank{trainer.global_rank}.json"
        path.write_text(json.dumps(facts, sort_keys=True))
