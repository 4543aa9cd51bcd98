"""Sweeps with a task that takes no time: records, table, failures, going on, Optuna's trials."""

import csv
import json
from pathlib import Path

import pytest

from mambavision_lab.launch.sweeps.jobs import read_records
from mambavision_lab.launch.sweeps.summary import best_job, report, varied_values
from mambavision_lab.runs.folder import write_json


@pytest.fixture
def sweep_folder(tmp_path):
    """The one sweep that was run."""

    def find() -> Path:
        (table,) = (tmp_path / "logs" / "sweep").rglob("sweep.csv")
        return table.parent

    return find


@pytest.fixture
def task():
    """Write metrics as a training does; `seen` holds (seed, lr, folder, checkpoint) of the calls."""

    def run(cfg):
        folder = Path(cfg.paths.output_dir)
        run.seen.append((cfg.seed, cfg.optimizer.lr, folder, cfg.ckpt_path))
        if run.ends_at == len(run.seen):
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "last.ckpt").touch()
            raise KeyboardInterrupt
        value = (cfg.seed or 0) + cfg.optimizer.lr
        write_json({"val/acc1": value, "test/images_per_s": 5.0}, folder / "metrics.json")
        return value

    run.seen, run.ends_at = [], 0
    return run


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def test_sweep_keeps_a_row_and_a_folder_per_job(command, task, sweep_folder, capsys):
    assert command(task, "-m", "seed=1,2", "optimizer=adamw,sgd", "name=x") == 0
    table = rows(sweep_folder())
    assert [row["job"] for row in table] == ["0", "1", "2", "3"]
    assert {row["status"] for row in table} == {"done"}
    assert table[3]["overrides"] == "seed=2 optimizer=sgd name=x"
    assert float(table[3]["val/acc1"]) == pytest.approx(2.1)
    assert [Path(row["folder"]) for row in table] == [folder for _, _, folder, _ in task.seen]
    out = capsys.readouterr().out
    assert "best: job 3, val/acc1 2.1000" in out
    assert f"from_run={sweep_folder()}/3" in out.replace("\n", "")
    assert (sweep_folder() / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_sweep_over_models_stays_in_one_folder(command, task, sweep_folder):
    assert command(task, "-m", "model=mambavision_nano,mambavision_tiny") == 0
    assert len(rows(sweep_folder())) == 2


def test_interrupted_sweep_goes_on_where_it_was(command, task, sweep_folder):
    task.ends_at = 3
    with pytest.raises(KeyboardInterrupt):
        command(task, "-m", "seed=range(6)")
    folder = sweep_folder()
    states = ["done", "done", "interrupted", "waiting", "waiting", "waiting"]
    assert [row["status"] for row in rows(folder)] == states
    assert command(task, "-m", "seed=range(6)", f"sweep.resume={folder}") == 0
    assert [seed for seed, *_ in task.seen] == [0, 1, 2, 2, 3, 4, 5]
    assert task.seen[3][2] == task.seen[2][2]
    checkpoints = [checkpoint for *_, checkpoint in task.seen]
    last = f"{folder}/2/checkpoints/last.ckpt"
    assert checkpoints == [None, None, None, last, None, None, None]
    assert [row["status"] for row in rows(folder)] == ["done"] * 6
    # Once more: nothing is left to do.
    assert command(task, "-m", "seed=range(6)", f"sweep.resume={folder}") == 0
    assert len(task.seen) == 7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-m", "seed=1,3", "sweep.resume={}"], "is of another command: train.py -m seed=1,2"),
        (["-m", "seed=1,2", "sweep.resume={}/0"], "no sweep there"),
        (["-m", "seed=1,2", "sweep.resume=/no/such"], "no sweep there"),
        (["seed=1", "sweep.resume={}"], "only a sweep can be resumed; add -m"),
        (["-m", "seed=1,2", "sweep.n_trials=3"], "sweep.n_trials: no such option"),
        (["-m", "seed=1,2", "sweep=optuna", "sweep.n_trails=3"], "did you mean 'n_trials'?"),
        (["-m", "seed=1,2", "sweep=optuna", "sweep.n_trials=x"], "sweep.n_trials=x: wanted int"),
        (["-m", "seed=1,2", "sweep=optuna", "sweep.n_trials=0"], "wanted at least 1"),
        (["-m", "seed=1", "sweep=optuna"], "nothing to search"),
        (["-m", "seed=1", "sweep=optunal"], "did you mean 'optuna'?"),
        (["-m", "seed=1,2", "+hydra.sweeper.n_jobs=2"], "hydra.sweeper.n_jobs: LabSweeper has no"),
        (["-m", "seed=1,2", "hydra/launcher=ray"], "pip install 'mambavision-lab[ray]'"),
        (["-m", "sweep=grid,optuna", "seed=1"], "cannot itself be swept"),
        (["-m", "optimizer.lr=interval(0,1)"], "add sweep=optuna"),
    ],
)
def test_bad_sweep_is_refused_in_one_line(command, task, sweep_folder, capsys, arguments, named):
    assert command(task, "-m", "seed=1,2") == 0
    capsys.readouterr()
    folder = sweep_folder()
    assert command(task, *(a.format(folder) for a in arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert len(task.seen) == 2


def test_optuna_runs_trials_to_a_total_and_goes_on(command, task, sweep_folder):
    space = ["-m", "sweep=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "seed=1,2"]
    task.ends_at = 3
    with pytest.raises(KeyboardInterrupt):
        command(task, *space, "sweep.n_trials=4")
    folder = sweep_folder()
    assert command(task, *space, "sweep.n_trials=5", f"sweep.resume={folder}") == 0
    assert task.seen[3][:3] == task.seen[2][:3]  # the broken trial, with its values
    assert len(task.seen) == 6
    assert len({lr for _, lr, *_ in task.seen}) == 5
    assert all(1e-4 <= lr <= 1e-2 for _, lr, *_ in task.seen)
    assert [row["status"] for row in rows(folder)] == ["done"] * 5
    records = read_records(folder)
    assert json.loads((folder / "4" / "trial.json").read_text())["number"] == 4
    assert records[4]["value"] == records[4]["metrics"]["val/acc1"]


def test_best_job_is_of_those_that_were_finished():
    records = [
        {"job": 0, "overrides": ["a=1", "b=2"], "status": "done", "value": 0.5},
        {"job": 1, "overrides": ["a=2", "b=2"], "status": "pruned", "value": 0.9},
        {"job": 2, "overrides": ["a=3", "b=2"], "status": "done", "value": float("nan")},
        {"job": 3, "overrides": ["a=4", "b=2"], "status": "done", "value": 0.7},
    ]
    assert best_job(records, "m", is_minimized=False)["job"] == 3
    assert best_job(records, "m", is_minimized=True)["job"] == 0
    assert varied_values(records) == {"a": ["1", "2", "3", "4"]}


def test_best_job_of_an_evaluation_is_repeated_by_its_own_command(tmp_path, capsys):
    (tmp_path / "0").mkdir()
    overrides = ["ckpt_path=best.ckpt", "data.batch_size=5", "hydra.searchpath=['file:///x']"]
    facts = {"job": 0, "overrides": overrides, "status": "done", "seconds": 1.0, "value": 0.5}
    write_json(facts, tmp_path / "0" / "job.json")
    assert report(tmp_path, "eval", None, is_minimized=False) == 0
    out = capsys.readouterr().out
    assert "best: job 0, value 0.5000; again with:\n" in out
    assert "\n  python eval.py ckpt_path=best.ckpt data.batch_size=5\n" in out


def test_wandb_runs_of_a_sweep_share_a_group(compose, tmp_path):
    assert compose("train", "logger=wandb").logger.wandb.group is None
    cfg = compose("train", "logger=wandb", "hydra.mode=MULTIRUN")  # in tmp_path/logs/run
    assert cfg.logger.wandb.group == f"{tmp_path.name}/logs"
