"""What each ingredient of the speedrun is worth, and what other networks reach in the same minutes.

python benchmarks/recipes.py ablation    one ingredient left out or put in, 12,000 images of Fashion-MNIST
python benchmarks/recipes.py contenders  other networks with the speedrun's recipe, for as many epochs as
                                         fit into the processor time of 4 of its epochs
Each row is the mean of some seeds; a run is `train.py` in a process of its own.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table
from speedrun import ROOT, run

EXPERIMENT = "fashion_mnist_speedrun"
SUBSET = [
    *("data.val_fraction=0.8", "trainer.limit_val_batches=8"),  # 12,000 images, chosen by 2,048
    *("trainer.max_epochs=12", "data.batch_size=128"),
]
TIMM = "model=timm model.name="
TABLES = {
    "ablation": {
        "the whole recipe": "",
        "mirrored at random, not in turn": "augment.horizontal_flip=true",
        "not mirrored": "augment.horizontal_flip=false",
        "no shifts": "augment.shift=0",
        "no erasing": "augment.erasing=0",
        "no smoothing of labels": "loss.smoothing=0",
        "no average of the weights": "callbacks=default ~callbacks.ema",
        "no views at test time": "tta=none",
        "a cosine, not a line": "scheduler=cosine",
        "AdamW, not Muon": "optimizer=adamw",
        "half of the batches with CutMix": "augment.cutmix=1 augment.mix_prob=0.5",
    },
    "contenders": {
        "micro": "trainer.max_epochs=4",
        "nano": "model=mambavision_nano trainer.max_epochs=2 scheduler.warmup_epochs=0.5",
        "MambaOut of that size": f"{TIMM}mambaout_femto trainer.max_epochs=6 "
        "trainer.precision=32-true "
        "+model.model_args.dims=[24,48,96,180] +model.model_args.depths=[1,2,4,1]",
        "ViT of that size": f"{TIMM}vit_tiny_patch16_224 optimizer.lr=1e-3 "
        "trainer.max_epochs=2 trainer.limit_train_batches=0.77 scheduler.warmup_epochs=0.5 "
        "+model.model_args.embed_dim=128 +model.model_args.depth=5 +model.model_args.num_heads=4",
        # Muon lengthens the step of eleven million weights by a sixth; ten views would take minutes.
        "resnet18": f"{TIMM}resnet18 optimizer=adamw optimizer.lr=1e-3 "
        "trainer.max_epochs=1 trainer.limit_train_batches=0.3 scheduler.warmup_epochs=0.3 tta=none",
    },
}


def main() -> None:
    """Train all rows of a table, seed by seed, and print it after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", help="some of the rows")
    arguments = parser.parse_args()
    rows = {name: change.split() for name, change in TABLES[arguments.table].items()}
    if arguments.rows:
        rows = {name: rows[name] for name in arguments.rows}
    common = SUBSET if arguments.table == "ablation" else []
    path = ROOT / "logs" / "recipes" / f"{arguments.table}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # torch's fused attention has a slow backward pass in bfloat16 on a CPU: half of a ViT's time.
    os.environ["TIMM_FUSED_ATTN"] = "0"
    records: dict[str, list[dict[str, object]]] = {name: [] for name in rows}
    for seed in arguments.seeds:
        for name, change in rows.items():
            records[name].append(run(EXPERIMENT, seed, [*common, *change]))
            path.write_text(json.dumps(records, indent=2) + "\n")
        print_table(records, path)


def print_table(records: dict[str, list[dict[str, object]]], path: Path) -> None:
    """Print means and standard deviations of a table's rows."""
    table = Table("", "test top-1, %", "runs", "s a run", caption=str(path.relative_to(ROOT)))
    for name, runs in records.items():
        tests = [float(str(record["test"])) for record in runs]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
        seconds = statistics.mean(float(str(record["seconds"])) for record in runs)
        table.add_row(
            *(name, f"{statistics.mean(tests):.2f}{spread}", str(len(tests)), f"{seconds:.0f}")
        )
    Console().print(table)


if __name__ == "__main__":
    main()
