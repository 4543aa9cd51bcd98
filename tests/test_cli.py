"""The entry points as a user runs them: runs, their folders, evaluation, resuming."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mambavision_lab.files import list_choices
from mambavision_lab.launch.distributed.devices import num_local_processes

ROOT = Path(__file__).parents[1]
SMALL = (
    "trainer=cpu trainer.max_epochs=2 scheduler.warmup_epochs=0.5 data.num_train=96 data.num_val=33 "
    "data.num_test=35 model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2"
).split()


@pytest.fixture
def call(call):
    """Call train.py or eval.py in this process; returns exit status and what stderr says."""
    return lambda script, *arguments: call(script, *arguments)[::2]


def metrics_of(folder: Path) -> dict[str, float]:
    """Metrics of a run without its speeds, which no two runs share."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if not name.endswith("_per_s")}


def newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda p: p.name)


def test_training_run_leaves_all_it_promises(call, logs):
    assert call("train", *SMALL)[0] == 0
    run = logs / "latest"
    present = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert present >= {
        "config.yaml",
        "overrides.yaml",
        "provenance.json",
        "metrics.csv",
        "metrics.json",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "snapshot/snapshot.yaml",
        "snapshot/model/as_trained.yaml",
    }
    assert run.resolve().parent == logs / "train" / "mambavision_nano-synthetic"
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["seed"] == 42
    assert provenance["packages"]["torch"] == torch.__version__.split("+")[0]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["val/acc1"]]) == 2 + 1  # two epochs and the best again
    assert all(float(row["train/images_per_s"]) > 0 for row in rows if row["train/images_per_s"])


def test_evaluation_repeats_the_metrics_of_the_test(call, logs):
    assert call("train", *SMALL)[0] == 0
    trained = metrics_of(logs / "latest")
    checkpoint = f"ckpt_path={logs}/latest/checkpoints/best.ckpt"
    assert call("eval", checkpoint, "trainer=cpu")[0] == 0
    evaluated = metrics_of(newest(logs / "eval" / "mambavision_nano-synthetic"))
    kept = ("test/", "epoch", "step")
    assert evaluated == {k: v for k, v in trained.items() if k.startswith(kept)}
    # Another batch size changes the order of summation only; other images change the metrics.
    assert call("eval", checkpoint, "trainer=cpu", "data.batch_size=7")[0] == 0
    in_sevens = metrics_of(newest(logs / "eval" / "mambavision_nano-synthetic"))
    assert in_sevens == pytest.approx(evaluated, rel=1e-5)
    assert call("eval", checkpoint, "trainer=cpu", "data.num_test=50")[0] == 0
    assert metrics_of(newest(logs / "eval" / "mambavision_nano-synthetic")) != evaluated


def test_evaluation_refuses_data_with_unknown_classes(call, logs):
    assert call("train", *SMALL, "trainer.max_epochs=1")[0] == 0
    checkpoint = f"ckpt_path={logs}/latest/checkpoints/best.ckpt"
    status, err = call("eval", checkpoint, "trainer=cpu", "data=digits", "data.in_chans=3")
    assert status == 2
    assert "classes that the network does not know: ['0', '1'" in err


@pytest.mark.slow
def test_same_seed_gives_identical_metrics_and_another_seed_others(call, logs):
    for seed in ("7", "7", "8"):
        assert call("train", *SMALL, f"seed={seed}")[0] == 0
    first, second, other = sorted((logs / "train" / "mambavision_nano-synthetic").iterdir())
    assert metrics_of(first) == metrics_of(second)
    assert metrics_of(first) != metrics_of(other)


def test_drawn_seed_is_recorded(call, logs):
    assert call("train", *SMALL, "seed=null", "trainer.max_epochs=1")[0] == 0
    assert isinstance(json.loads((logs / "latest" / "provenance.json").read_text())["seed"], int)


@pytest.mark.slow
def test_resume_equals_unbroken_run(call, logs):
    keep_all = [
        "callbacks.checkpoint.save_top_k=-1",
        "callbacks.checkpoint.filename='epoch{epoch}'",
    ]
    keep_all.append("+callbacks.checkpoint.auto_insert_metric_name=false")
    assert call("train", *SMALL, *keep_all)[0] == 0
    unbroken = (logs / "latest").resolve()
    first_epoch = unbroken / "checkpoints" / "epoch0.ckpt"
    assert call("train", *SMALL, f"ckpt_path={first_epoch}")[0] == 0
    resumed = (logs / "latest").resolve()
    assert resumed != unbroken
    weights = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (unbroken, resumed)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_resuming_through_the_latest_link_reads_the_old_run(call, logs):
    assert call("train", *SMALL, "trainer.max_epochs=1")[0] == 0
    assert call("train", *SMALL, f"ckpt_path={logs}/latest/checkpoints/last.ckpt")[0] == 0
    config = (logs / "latest" / "config.yaml").read_text()
    assert "ckpt_path: " + str(newest(logs / "train" / "mambavision_nano-synthetic")) not in config


def test_sweep_runs_every_job_in_its_own_folder(call, logs):
    assert call("train", "-m", *SMALL, "trainer.max_epochs=1", "optimizer.lr=1e-3,1e-4")[0] == 0
    (sweep,) = (logs / "sweep" / "mambavision_nano-synthetic").iterdir()
    jobs = [sweep / "0", sweep / "1"]
    assert metrics_of(jobs[0]) != metrics_of(jobs[1])


@pytest.mark.slow
def test_evaluation_takes_flags_anywhere_and_sweeps(call, logs, capsys):
    assert call("train", *SMALL, "trainer.max_epochs=1")[0] == 0
    checkpoint = f"ckpt_path={logs}/latest/checkpoints/best.ckpt"
    assert call("eval", checkpoint, "--cfg", "job")[0] == 0
    assert call("eval", checkpoint, "trainer=cpu", "data.batch_size=5,35", "-m")[0] == 0
    (sweep,) = (logs / "sweep" / "eval" / "mambavision_nano-synthetic").iterdir()
    assert metrics_of(sweep / "0") == pytest.approx(metrics_of(sweep / "1"), rel=1e-5)


def test_finished_run_is_not_resumed(call, logs):
    assert call("train", *SMALL, "trainer.max_epochs=1")[0] == 0
    finished = (logs / "latest").resolve()
    last = f"ckpt_path={finished}/checkpoints/last.ckpt"
    status, err = call("train", *SMALL, "trainer.max_epochs=1", last)
    assert status == 2
    assert "has 1 epoch, and trainer.max_epochs=1; raise trainer.max_epochs" in err
    assert (logs / "latest").resolve() == finished


def test_run_that_diverges_at_once_is_refused(call, logs):
    status, err = call("train", *SMALL, "optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith("error: train/loss in epoch 1, step 2, is nan at learning rate ")
    assert "lower optimizer.lr" in line
    assert "Traceback" in (logs / "latest" / "train.log").read_text()


GROUPS = ("optimizer", "scheduler", "augment", "loss", "callbacks", "tta")
OF_OTHER_DATA = {
    "volumes": [*SMALL, "data=synthetic_volumes", "model=mambavision_nano_3d"],
    "clips": [*SMALL, "data=synthetic_clips", "model=mambavision_nano_3d"],
    "dice": ["experiment=segmentation", *(o for o in SMALL if not o.startswith("model."))],
}


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_trains(call, group):
    of_other_runs = {"distillation", "unpruned", "eval"}
    for choice in set(list_choices(group)) - of_other_runs:
        small = OF_OTHER_DATA.get(choice, SMALL)
        small = [o for o in small if group != "scheduler" or not o.startswith("scheduler.")]
        status, err = call("train", *small, "trainer.max_epochs=3", f"{group}={choice}")
        assert status == 0, f"{group}={choice}: {err}"


@pytest.mark.parametrize(
    "options",
    [
        ["trainer=debug", "trainer.precision=bf16-mixed"],
        ["trainer=debug", "logger.csv=null", "callbacks=none", "trainer.limit_val_batches=0"],
        *(
            pytest.param(options.split(), marks=pytest.mark.slow)
            for options in (
                "trainer=debug callbacks=early_stopping logger=none augment=none",
                "trainer=debug callbacks.predictions=null callbacks.throughput=null",
                "trainer=debug callbacks=none optimizer=sgd scheduler=constant",
                "trainer=debug data=digits model.use_checkpointing=true",
                "trainer=debug callbacks=none logger=none trainer.precision=bf16-true",
            )
        ),
    ],
    ids=lambda options: " ".join(options[1:]),
)
def test_options_run(call, logs, options, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert call("train", *options)[0] == 0
    assert metrics_of(logs / "latest")["test/loss"] > 0
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_wandb_without_key_or_network_writes_offline_and_says_so_once(
    call, logs, monkeypatch, tmp_path
):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    assert call("train", "-m", "trainer=debug", "logger=many", "seed=1,2")[0] == 0
    (sweep,) = (logs / "sweep" / "mambavision_nano-synthetic").iterdir()
    for job in ("0", "1"):  # a run each
        assert len(list((sweep / job / "wandb").glob("offline-run-*"))) == 1
    assert list((logs / "latest" / "tensorboard").glob("events.*"))
    assert (logs / "latest" / "train.log").read_text().count("wandb writes offline") == 1


def in_new_process(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )


def epochs_of(folder: Path) -> list[dict[str, float]]:
    """Metrics of each epoch of a run, without speeds."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if "/" in name and not name.endswith("_per_s")]
    return [{name: float(row[name]) for name in names if row[name]} for row in rows]


@pytest.mark.slow
def test_two_processes_find_the_same_metrics_as_one(logs, call):
    # 33 and 35 images do not divide by two: an image counted twice would change the accuracies.
    same = [*SMALL, "trainer.max_epochs=3", "augment=none", "optimizer.lr=3e-3"]
    assert call("train", *same, "data.batch_size=16", "name=one")[0] == 0
    two = (
        "trainer=ddp trainer.accelerator=cpu trainer.devices=2 data.batch_size=8 name=two "
        "+trainer.plugins=[{_target_:sync_batch_norm.CPUSyncBatchNorm}]"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = in_new_process(str(ROOT / "train.py"), *same, *two.split(), PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    (alone,), (shared,) = (list((logs / "train" / name).iterdir()) for name in ("one", "two"))
    found, wanted = (
        [*epochs_of(folder), metrics_of(folder)] for folder in (shared, alone.resolve())
    )
    assert [list(row) for row in found] == [list(row) for row in wanted]
    for name in ("train/loss", "train/acc1", "val/loss", "val/acc1", "val/acc5", "test/acc1"):
        pairs = [(a[name], b[name]) for a, b in zip(found, wanted, strict=True) if name in a]
        print(f"{name}: one {[b for _, b in pairs]}, two {[a for a, _ in pairs]}")
        for value, expected in pairs:
            # Sums in another order, through 18 steps of training.
            is_loss = name.endswith("loss")
            assert value == (pytest.approx(expected, rel=1e-5) if is_loss else expected)


def test_number_of_processes_follows_the_devices():
    from omegaconf import OmegaConf

    def count(devices, accelerator="cpu"):
        cfg = OmegaConf.create({"trainer": {"devices": devices, "accelerator": accelerator}})
        return num_local_processes(cfg)

    assert [count(1), count(3), count("2"), count([0, 5]), count("auto")] == [1, 3, 2, 2, 1]


def test_help_and_config_load_no_torch_from_any_folder(tmp_path):
    probe = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print('slow:', sorted({'torch', 'lightning', 'timm', 'ssl'} & set(sys.modules)))"
    )
    for flags in (["--help"], ["--cfg", "job"], ["trainer.max_epochs=abc"]):
        script = f"import sys; sys.argv = {[str(ROOT / 'train.py'), *flags]!r}\n{probe}"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
        )
        assert "slow: []" in done.stdout, done.stdout + done.stderr
        assert done.returncode == (2 if "=" in flags[0] else 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_training_needs_nothing_that_only_posix_has(tmp_path):
    script = (
        "import os, sys\n"
        "for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'): sys.modules[name] = None\n"
        "for name in ('getuid', 'sched_getaffinity', 'sched_setaffinity', 'fork'): delattr(os, name)\n"
        f"sys.argv = [{str(ROOT / 'train.py')!r}, 'trainer=debug']\n"
        "import runpy\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = in_new_process("-c", script, MAMBAVISION_LOGS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "latest" / "metrics.json").is_file()
