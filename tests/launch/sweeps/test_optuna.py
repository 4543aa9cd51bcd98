"""Optuna's trials: their number, their values, and that an interruption neither loses nor doubles one."""

import importlib.util
import json
from pathlib import Path

import optuna
import pytest
from tables import rows

from mambavision_lab.launch.sweeps import sweep as sweeping
from mambavision_lab.launch.sweeps.jobs import read_records
from mambavision_lab.launch.sweeps.optuna import JOURNAL, OLD_STORAGE, STUDY, open_journal
from mambavision_lab.runs.folder import write_json

SPACE = ["-m", "sweep=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "seed=1,2"]
N_TRIALS = "sweep.search.n_trials"


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=STUDY, storage=open_journal(folder / JOURNAL))


def states_of(folder: Path) -> list[str]:
    return [trial.state.name for trial in study_of(folder).trials]


@pytest.mark.slow
def test_optuna_runs_trials_to_a_total_and_resumes(command, task, sweep_folder):
    task.ends_at = 3
    with pytest.raises(KeyboardInterrupt):
        command(task, *SPACE, f"{N_TRIALS}=4")
    folder = sweep_folder()
    assert states_of(folder) == ["COMPLETE"] * 2 + ["RUNNING"]
    assert command(task, *SPACE, f"{N_TRIALS}=5", f"sweep.resume={folder}") == 0
    assert task.seen[3][:3] == task.seen[2][:3]  # the interrupted trial, with its values
    assert len(task.seen) == 6
    assert len({lr for _, lr, *_ in task.seen}) == 5
    assert all(1e-4 <= lr <= 1e-2 for _, lr, *_ in task.seen)
    assert [row["status"] for row in rows(folder)] == ["done"] * 5
    records = read_records(folder)
    assert json.loads((folder / "4" / "trial.json").read_text())["number"] == 4
    assert records[4]["value"] == records[4]["metrics"]["val/acc1"]
    trials = study_of(folder).trials
    assert [trial.value for trial in trials] == [record["value"] for record in records.values()]
    assert [f"optimizer.lr={trial.params['optimizer.lr']}" for trial in trials] == [
        record["overrides"][1] for record in records.values()
    ]


def test_sampled_values_are_those_of_a_plain_study(command, task, sweep_folder):
    assert command(task, *SPACE, f"{N_TRIALS}=8", "sweep.search.num_random=3") == 0
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=3, constant_liar=True)
    plain = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
        return int(trial.suggest_categorical("seed", ["1", "2"])) + lr

    plain.optimize(objective, n_trials=8)
    assert [trial.params for trial in study_of(sweep_folder()).trials] == [
        trial.params for trial in plain.trials
    ]


@pytest.mark.slow
def test_trials_side_by_side_are_sampled_at_once(command, task, sweep_folder, monkeypatch):
    batches = []
    prepare = sweeping._prepare
    monkeypatch.setattr(
        sweeping, "_prepare", lambda job, *rest: batches.append(job.number) or prepare(job, *rest)
    )
    seen = []

    def recording(cfg):
        seen.append(len(batches))
        return task(cfg)

    assert command(recording, *SPACE, f"{N_TRIALS}=5", "sweep.search.num_parallel=3") == 0
    assert seen == [3, 3, 3, 5, 5]
    assert states_of(sweep_folder()) == ["COMPLETE"] * 5


def test_failed_trials_and_values_that_are_no_number_teach_nothing(command, sweep_folder):
    def task(cfg):
        if cfg.seed == 1:
            raise RuntimeError("too bad")
        return float("nan")

    given = ["-m", "sweep=optuna", "seed=1,2", f"{N_TRIALS}=6", "sweep.search.num_random=6"]
    assert command(task, *given) == 1
    assert {row["status"] for row in rows(sweep_folder())} == {"failed", "done"}
    assert states_of(sweep_folder()) == ["FAIL"] * 6


def test_optuna_that_is_not_installed_is_named_with_its_extra(command, task, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else find(name, *a)
    )
    assert command(task, *SPACE) == 2
    (line,) = capsys.readouterr().err.splitlines()
    wanted = "the package optuna; install it with: pip install 'mambavision-lab[optuna]'"
    assert line == f"error: sweep=optuna needs {wanted}"


class Killed(BaseException):
    """Ends a sweep at any point, as a kill does: nothing after it is written."""


@pytest.mark.parametrize(
    ("point", "turn"),
    [
        ("append_logs", 2),
        pytest.param("append_logs", 3, marks=pytest.mark.slow),
        pytest.param("append_logs", 4, marks=pytest.mark.slow),
        ("_prepare", 2),
        pytest.param("write_table", 2, marks=pytest.mark.slow),
        ("task", 2),
    ],
)
def test_sweep_killed_anywhere_has_each_trial_once(
    command, task, sweep_folder, monkeypatch, tmp_path, point, turn
):
    """Kill before each kind of write, the nth time that it comes (the journal's first makes the study)."""
    owner = {
        "append_logs": optuna.storages.journal.JournalFileBackend,
        "_prepare": sweeping,
        "write_table": sweeping,
    }.get(point)
    calls = []

    def killing(original):
        def call(*args, **kwargs):
            calls.append(point)
            if len(calls) == turn:
                raise Killed
            return original(*args, **kwargs)

        return call

    given = [*SPACE, f"{N_TRIALS}=4"]
    with monkeypatch.context() as patch:
        if owner is not None:
            patch.setattr(owner, point, killing(getattr(owner, point)))
        with pytest.raises(Killed):
            command(task if owner is not None else killing(task), *given)
    (command_file,) = (tmp_path / "logs" / "sweep").rglob("sweep.json")
    folder = command_file.parent
    before = [trial.params for trial in study_of(folder).trials]
    assert all(len(params) == 2 for params in before)
    assert command(task, *given, f"sweep.resume={folder}") == 0
    trials = study_of(folder).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert [trial.params for trial in trials[: len(before)]] == before
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 4
    assert len({lr for _, lr, *_ in task.seen}) == 4
    assert [row["status"] for row in rows(folder)] == ["done"] * 4


@pytest.mark.slow
def test_pruned_trial_is_recorded_and_an_old_mark_is_not(command, task, sweep_folder):
    def prune(cfg):
        folder = Path(cfg.paths.output_dir)
        (folder / "pruned").touch()
        if folder.name == "1":
            raise KeyboardInterrupt  # after it decided to stop
        return task(cfg)

    with pytest.raises(KeyboardInterrupt):
        command(prune, *SPACE, f"{N_TRIALS}=2")
    folder = sweep_folder()
    assert [row["status"] for row in rows(folder)] == ["pruned", "interrupted"]
    assert command(task, *SPACE, f"{N_TRIALS}=2", f"sweep.resume={folder}") == 0
    assert [row["status"] for row in rows(folder)] == ["pruned", "done"]
    assert states_of(folder) == ["PRUNED", "COMPLETE"]


@pytest.mark.slow
def test_line_cut_by_a_full_disk_is_dropped(command, task, sweep_folder):
    assert command(task, *SPACE, f"{N_TRIALS}=2") == 0
    folder = sweep_folder()
    with (folder / JOURNAL).open("a") as file:
        file.write('{"op_code":4,"worker')
    assert command(task, *SPACE, f"{N_TRIALS}=3", f"sweep.resume={folder}") == 0
    assert states_of(folder) == ["COMPLETE"] * 3


@pytest.fixture
def old_sweep(tmp_path):
    """A sweep of an earlier version: one trial done, one interrupted with a report; SQLite."""
    folder = tmp_path / "old"
    storage = f"sqlite:///{folder / OLD_STORAGE}"
    for number, status in ((0, "done"), (1, "running")):
        (folder / str(number)).mkdir(parents=True)
        overrides = ["sweep=optuna", f"optimizer.lr={(0.001, 0.002)[number]}", "seed=1"]
        record = {"job": number, "overrides": overrides, "status": status, "seconds": 1.0}
        write_json(record | {"value": 1.001}, folder / str(number) / "job.json")
        trial = {"storage": storage, "study": STUDY, "number": number, "num_random": 5}
        write_json(trial | {"pruning_epochs": 1}, folder / str(number) / "trial.json")
    study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize")
    for lr in (0.001, 0.002):
        study.enqueue_trial({"optimizer.lr": lr, "seed": "1"})
    space = {
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "seed": optuna.distributions.CategoricalDistribution(["1", "2"]),
    }
    study.tell(study.ask(space), 1.001)
    study.ask(space).report(0.5, 1)
    command = [*SPACE[1:], "sweep.n_trials=2", "sweep.num_parallel=2"]
    write_json({"task": "train", "overrides": command}, folder / "sweep.json")
    return folder


@pytest.mark.slow
def test_sweep_of_an_earlier_version_resumes(command, task, old_sweep):
    given = [f"{N_TRIALS}=3", "sweep.search.num_parallel=1", f"sweep.resume={old_sweep}"]
    assert command(task, *SPACE, *given) == 0
    assert [(seed, lr) for seed, lr, *_ in task.seen[:1]] == [(1, 0.002)]
    assert len(task.seen) == 2
    trials = study_of(old_sweep).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert [trial.value for trial in trials[:2]] == [1.001, 1.002]
    assert trials[1].intermediate_values == {1: 0.5}
    trial = json.loads((old_sweep / "1" / "trial.json").read_text())
    assert trial["journal"] == str(old_sweep / JOURNAL)


def test_sweep_of_an_earlier_version_with_other_settings_is_refused(
    command, task, old_sweep, capsys
):
    assert command(task, *SPACE, "sweep.search.seed=1", f"sweep.resume={old_sweep}") == 2
    err = capsys.readouterr().err
    assert "is of another command" in err
    assert "sweep.search.n_trials=2 sweep.search.num_parallel=2;" in err  # under today's names


def test_unreadable_storage_of_an_earlier_version_is_refused(command, task, old_sweep, capsys):
    (old_sweep / OLD_STORAGE).write_bytes(b"no database" * 100)
    assert command(task, *SPACE, f"sweep.resume={old_sweep}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"sweep.resume={old_sweep}: its optuna.db cannot be read (" in line
    assert line.endswith("start a new sweep")
    assert task.seen == []
    (old_sweep / OLD_STORAGE).unlink()
