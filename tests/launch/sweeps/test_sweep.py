"""Sweeps with a task that takes no time: records, table, failures, resuming, new strategies."""

import json
import shlex
from pathlib import Path

import pytest
from hydra.types import RunMode
from tables import rows

from mambavision_lab.launch.sweeps.summary import best_job, show_summary, varied_values
from mambavision_lab.runs.folder import open_run_folder, write_json

SEARCH = "sweep.search"


def test_sweep_has_a_row_and_a_folder_per_job(command, task, sweep_folder, capsys):
    assert command(task, "-m", "seed=1,2", "optimizer=adamw,sgd", "name=x") == 0
    table = rows(sweep_folder())
    assert [row["job"] for row in table] == ["0", "1", "2", "3"]
    assert {row["status"] for row in table} == {"done"}
    assert table[3]["overrides"] == "seed=2 optimizer=sgd name=x"
    assert float(table[3]["val/acc1"]) == pytest.approx(2.1)
    assert [Path(row["folder"]) for row in table] == [folder for _, _, folder, _ in task.seen]
    out = capsys.readouterr().out
    assert "best: job 3, val/acc1 210.00%" in out
    assert f"from_run={sweep_folder()}/3" in out.replace("\n", "")
    assert (sweep_folder() / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_sweep_over_models_stays_in_one_folder(command, task, sweep_folder):
    assert command(task, "-m", "model=mambavision_nano,mambavision_tiny") == 0
    assert len(rows(sweep_folder())) == 2


def test_interrupted_sweep_resumes_where_it_was(command, task, sweep_folder):
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


BAD_SWEEPS = [
    (["-m", "seed=1,3", "sweep.resume={}"], "is of another command: train.py -m seed=1,2"),
    (["-m", "seed=1,2", "sweep.resume={}/0"], "no sweep there"),
    (["-m", "seed=1,2", "sweep.resume=/no/such"], "no sweep there"),
    (["seed=1", "sweep.resume={}"], "only a sweep can be resumed; add -m"),
    (["-m", "seed=1,2", "sweep.search.n_trials=3"], "sweep.search.n_trials: no such option"),
    (["-m", "seed=1,2", "sweep=optuna", "sweep.n_trials=3"], "is called sweep.search.n_trials"),
    (["-m", "seed=1,2", "sweep=optuna", f"{SEARCH}.n_trails=3"], "did you mean 'n_trials'?"),
    (["-m", "seed=1,2", "sweep=optuna", f"{SEARCH}.n_trials=x"], "n_trials=x: wanted int"),
    (["-m", "seed=1,2", "sweep=optuna", f"{SEARCH}.n_trials=0"], "wanted at least 1"),
    (["-m", "seed=1,2", "sweep.devices_per_job=x"], "sweep.devices_per_job: Value 'x'"),
    (["-m", "seed=1", "sweep=optuna"], "nothing to search"),
    (["-m", "seed=1", "sweep=optunal"], "did you mean 'optuna'?"),
    (["-m", "seed=1,2", "+hydra.sweeper.n_jobs=2"], "hydra.sweeper.n_jobs: LabSweeper has no"),
    (["-m", "seed=1,2", "hydra/launcher=ray"], "pip install 'mambavision-lab[ray]'"),
    (["-m", "sweep=grid,optuna", "seed=1"], "cannot itself be swept"),
    (["-m", "optimizer.lr=interval(0,1)"], "add sweep=optuna"),
]


def test_bad_sweep_is_refused_in_one_line(command, task, sweep_folder, capsys):
    assert command(task, "-m", "seed=1,2") == 0
    folder = sweep_folder()
    for arguments, named in BAD_SWEEPS:
        capsys.readouterr()
        assert command(task, *(a.format(folder) for a in arguments)) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert named in line
    assert len(task.seen) == 2


@pytest.mark.slow
def test_sweep_from_a_run_resumes_from_that_run_only(command, task, sweep_folder, capsys):
    def train(cfg):
        open_run_folder(cfg, is_latest=False)
        return task(cfg)

    assert command(train, "seed=7", "optimizer.lr=0.5") == 0
    run = task.seen[0][2]
    assert command(train, "-m", f"from_run={run}", "seed=1,2") == 0
    folder = sweep_folder()
    assert command(train, "-m", "seed=1,2", f"sweep.resume={folder}") == 2
    assert f"train.py -m from_run={run} seed=1,2; give the same" in capsys.readouterr().err
    assert command(train, "-m", f"from_run={run}", "seed=1,2", f"sweep.resume={folder}") == 0
    assert [(seed, lr) for seed, lr, *_ in task.seen] == [(7, 0.5), (1, 0.5), (2, 0.5)]


def test_job_records_the_command_as_it_was_typed(command, task, sweep_folder):
    def train(cfg):
        open_run_folder(cfg, is_latest=False)
        return task(cfg)

    typed = ["-m", "seed=1,2", "name=at-${paths.output_dir}"]
    assert command(train, *typed) == 0
    assert {row["overrides"].split()[1] for row in rows(sweep_folder())} == {typed[2]}
    provenance = json.loads((sweep_folder() / "1" / "provenance.json").read_text())
    assert shlex.split(provenance["command"])[-3:] == typed


def test_summary_counts_failed_jobs_and_shows_metrics_by_their_format(tmp_path, capsys):
    for number, status, loss in ((0, "done", 0.25), (1, "done", 0.125), (2, "failed", None)):
        (tmp_path / str(number)).mkdir()
        record = {"job": number, "overrides": [f"seed={number}"], "status": status, "seconds": 1}
        write_json(record | {"value": loss}, tmp_path / str(number) / "job.json")
    assert show_summary(tmp_path, "train", "val/loss") == 1
    assert "best: job 1, val/loss 0.1250" in capsys.readouterr().out


def test_summary_prints_brackets_of_folders_and_overrides(tmp_path, capsys):
    folder = tmp_path / "sweep [x]"
    for number, choice in enumerate(("[default,freeze]", "[default,ema]")):
        (folder / str(number)).mkdir(parents=True)
        record = {"job": number, "overrides": [f"callbacks={choice}"], "status": "done"}
        write_json(record | {"seconds": 1, "value": number}, folder / str(number) / "job.json")
    show_summary(folder, "eval", None)
    out = capsys.readouterr().out
    assert f"sweep: {folder}\n" in out
    assert out.count("[default,freeze]") == 1
    assert out.count("[default,ema]") == 2  # in the table, and as the best job


@pytest.mark.slow
def test_new_strategy_needs_only_a_class_and_a_yaml(
    command, task, make_module, tmp_path, sweep_folder, capsys
):
    make_module("my_search.py", STRATEGY)
    (tmp_path / "more" / "sweep").mkdir(parents=True)
    config = {"search": {"_target_": "my_search.Halving", "factor": 2}, "resume": None}
    write_json(config, tmp_path / "more" / "sweep" / "halving.yaml")
    given = ["-m", f"hydra.searchpath=['file://{tmp_path}/more']", "sweep=halving", "seed=range(8)"]
    assert command(task, *given, "sweep.search.factor=x") == 2
    assert "sweep.search.factor=x: wanted int" in capsys.readouterr().err
    assert command(task, *given) == 0
    assert [seed for seed, *_ in task.seen] == [0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 6, 7, 7]
    assert (sweep_folder() / "14" / "round.txt").read_text() == "3"
    assert [row["status"] for row in rows(sweep_folder())] == ["done"] * 15


STRATEGY = """
from mambavision_lab.launch.sweeps.grid import GridSearch
from mambavision_lab.launch.sweeps.search import Job

class Halving:
    def __init__(self, factor: int = 2) -> None:
        self.factor = factor

    probes = staticmethod(GridSearch.probes)

    def batches(self, parsed, folder, records, *, minimize):
        candidates, number, turn = [*self.probes(parsed)], 0, 0
        while candidates:
            jobs = [Job(number + i, o, {"round.txt": str(turn)}) for i, o in enumerate(candidates)]
            yield jobs
            best = sorted(jobs, key=lambda job: records[job.number]["value"], reverse=not minimize)
            chosen = best[: len(candidates) // self.factor]
            number, turn = number + len(jobs), turn + 1
            candidates = [job.overrides for job in jobs if job in chosen]
"""


def test_best_job_is_a_finished_one():
    records = [
        {"job": 0, "overrides": ["a=1", "b=2"], "status": "done", "value": 0.5},
        {"job": 1, "overrides": ["a=2", "b=2"], "status": "pruned", "value": 0.9},
        {"job": 2, "overrides": ["a=3", "b=2"], "status": "done", "value": float("nan")},
        {"job": 3, "overrides": ["a=4", "b=2"], "status": "done", "value": 0.7},
    ]
    assert best_job(records, "val/acc1")["job"] == 3
    assert best_job(records, "val/loss")["job"] == 0
    assert best_job(records[1:3], "val/acc1") is None
    assert varied_values(records) == {"a": ["1", "2", "3", "4"]}


def test_best_job_of_an_evaluation_is_repeated_by_its_own_command(tmp_path, capsys):
    (tmp_path / "0").mkdir()
    overrides = ["ckpt_path=best.ckpt", "data.batch_size=5", "hydra.searchpath=['file:///x']"]
    record = {"job": 0, "overrides": overrides, "status": "done", "seconds": 1.0, "value": 0.5}
    write_json(record, tmp_path / "0" / "job.json")
    write_json({"test/acc1": 0.5, "test/num_images": 35.0}, tmp_path / "0" / "metrics.json")
    assert show_summary(tmp_path, "eval", None) == 0
    out = capsys.readouterr().out
    assert "best: job 0, value 0.5000 (35 images); to repeat it:\n" in out
    assert "\n  python eval.py ckpt_path=best.ckpt data.batch_size=5\n" in out


def test_wandb_runs_of_a_sweep_share_a_group(compose, tmp_path):
    assert compose("train", "logger=wandb").logger.wandb.group is None
    cfg = compose("train", "logger=wandb", mode=RunMode.MULTIRUN)  # in tmp_path/logs/run
    assert cfg.logger.wandb.group == f"{tmp_path.name}/logs"


def test_sweep_of_jobs_with_a_name_of_their_own_resumes(command, task, sweep_folder):
    given = ["-m", "seed=1,2", "hydra.job.name=mine"]
    assert command(task, *given) == 0
    assert json.loads((sweep_folder() / "sweep.json").read_text())["task"] == "train"
    assert command(task, *given, f"sweep.resume={sweep_folder()}") == 0
    assert len(task.seen) == 2
