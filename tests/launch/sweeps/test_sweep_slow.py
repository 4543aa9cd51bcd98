"""Sweeps and reproduction with real trainings, in processes of their own."""

import csv
import json
import signal
import time
from pathlib import Path

import optuna
import pytest
from tables import rows

from mambavision_lab.files import configs_folder
from mambavision_lab.launch.sweeps.optuna import JOURNAL, STUDY, open_journal

ROOT = configs_folder().parent
SMALL = (
    "trainer.max_epochs=2 scheduler.warmup_epochs=0.5 data.num_train=96 data.num_val=33 "
    "data.num_test=35 model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2"
).split()
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
PROBE = [
    "+callbacks.probe._target_=rank_probe.RankProbe",
    "+callbacks.probe.folder=${paths.output_dir}",
]


def epochs_of(folder: Path) -> list[dict[str, str]]:
    """Metrics of the training epochs of a run."""
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/images_per_s")]
    return [{key: value for key, value in row.items() if value} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "num_jobs"),
    [
        (["optimizer.lr=1e-3,3e-4,1e-4"], 3),
        (
            [
                "sweep=optuna",
                "sweep.search.n_trials=4",
                "optimizer.lr=tag(log,interval(1e-4,1e-2))",
            ],
            4,
        ),
    ],
    ids=["grid", "optuna"],
)
def test_ranks_of_a_job_are_given_the_same(start, tmp_path, what, num_jobs):
    run = start("train.py", "-m", *SMALL, *TWO, *PROBE, *what)
    out, _ = run.communicate(timeout=500)
    assert run.returncode == 0, out
    (sweep,) = (tmp_path / "logs" / "sweep" / "mambavision_nano-synthetic").iterdir()
    table = rows(sweep)
    assert len(table) == num_jobs
    assert len([path for path in sweep.iterdir() if path.is_dir()]) == num_jobs
    rates = set()
    for row in table:
        ranks = [Path(row["folder"]) / f"rank{rank}.json" for rank in (0, 1)]
        first, second = (path.read_text() for path in ranks)
        assert first == second
        assert f"optimizer.lr={json.loads(first)['lr']}" in row["overrides"].replace(
            "1e-3", "0.001"
        ).replace("3e-4", "0.0003").replace("1e-4", "0.0001")
        rates.add(json.loads(first)["lr"])
    assert len(rates) == num_jobs


@pytest.mark.slow
def test_trials_side_by_side_share_a_study_and_are_pruned(start, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = ["trainer=cpu", "trainer.max_epochs=4", "optimizer.lr=tag(log,interval(1e-6,1e-1))"]
    search = ["n_trials=8", "num_parallel=2", "num_random=2"]
    command = ["-m", *SMALL, *options, "sweep=optuna", *(f"sweep.search.{o}" for o in search)]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "sweep.devices_per_job=1"]
    run = start("train.py", *command, *launcher)
    out, _ = run.communicate(timeout=500)
    assert run.returncode == 0, out
    (sweep,) = (tmp_path / "logs" / "sweep" / "mambavision_nano-synthetic").iterdir()
    study = optuna.load_study(study_name=STUDY, storage=open_journal(sweep / JOURNAL))
    names = {"COMPLETE": "done", "PRUNED": "pruned"}
    assert [row["status"] for row in rows(sweep)] == [names[t.state.name] for t in study.trials]
    assert "pruned" in {row["status"] for row in rows(sweep)}
    for trial in study.trials:
        epochs = epochs_of(sweep / str(trial.number))
        assert [*trial.intermediate_values] == [int(row["epoch"]) + 1 for row in epochs]


@pytest.mark.slow
def test_sweep_killed_in_its_third_job_resumes(start, tmp_path):
    options = ["trainer=cpu", "trainer.max_epochs=30", "data.batch_size=16"]
    command = ["-m", *SMALL, *options, "seed=range(6)"]
    run = start("train.py", *command)
    logs = tmp_path / "logs" / "sweep" / "mambavision_nano-synthetic"
    until = time.monotonic() + 300
    # The checkpoint is written before the metrics of its epoch.
    while not any(epochs_of(path.parents[1]) for path in logs.glob("*/2/checkpoints/last.ckpt")):
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    (sweep,) = logs.iterdir()
    states = [row["status"] for row in rows(sweep)]
    assert states == ["done", "done", "running", "waiting", "waiting", "waiting"]
    before = epochs_of(sweep / "2")
    finished = {n: (sweep / n / "metrics.json").stat().st_mtime_ns for n in "01"}
    run = start("train.py", *command, f"sweep.resume={sweep}")
    out, _ = run.communicate(timeout=500)
    assert run.returncode == 0, out
    assert [row["status"] for row in rows(sweep)] == ["done"] * 6
    assert {n: (sweep / n / "metrics.json").stat().st_mtime_ns for n in "01"} == finished
    after = epochs_of(sweep / "2")
    assert [row["epoch"] for row in after] == [str(epoch) for epoch in range(30)]
    assert after[0] == before[0]  # its speed, too: not from the start
    assert [*logs.iterdir()] == [sweep]


@pytest.mark.slow
def test_stopped_sweep_leaves_no_job_of_submitit(start, tmp_path):
    pytest.importorskip("submitit")
    launcher = ["hydra/launcher=submitit_local", "seed=1,2"]
    run = start("train.py", "-m", *SMALL, *TWO, "trainer.max_epochs=999", *launcher)
    until = time.monotonic() + 300
    while len(list(tmp_path.rglob("last.ckpt"))) < 2:
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=60)  # the jobs have this output, too, until they end
    assert run.returncode == 143, out


@pytest.mark.slow
def test_reproduced_run_has_identical_metrics(start, tmp_path):
    run = start("train.py", *SMALL, "trainer=cpu", "seed=3")
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    again = start("-m", "mambavision_lab.runs.reproduce", str(tmp_path / "logs" / "latest"))
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    assert "reproduced: every metric is the same" in out
    other = start(
        "-m", "mambavision_lab.runs.reproduce", str(tmp_path / "logs" / "latest"), "seed=4"
    )
    out, _ = other.communicate(timeout=300)
    assert other.returncode == 1, out
    assert "not the same metrics" in out
