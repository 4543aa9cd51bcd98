import pytest

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.entry import _jobs, _without_links


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        ([], [[]]),
        (["seed=1"], [["seed=1"]]),
        (["seed=1,2,3"], [["seed=1"], ["seed=2"], ["seed=3"]]),
        (["data.seed=range(2,5)"], [["data.seed=2"], ["data.seed=3"], ["data.seed=4"]]),
        (
            ["seed=1,2", "name=x", "optimizer=adamw,sgd"],
            [
                [f"seed={seed}", "name=x", f"optimizer={name}"]
                for seed in (1, 2)
                for name in ("adamw", "sgd")
            ],
        ),
        (["data.mean=[0.5],[0.4]"], [["data.mean=[0.5]"], ["data.mean=[0.4]"]]),
    ],
)
def test_jobs_of_a_sweep_are_all_enumerated(overrides, jobs):
    assert list(_jobs(overrides, is_multirun=True)) == jobs


def test_jobs_of_a_glob_are_the_choices_that_fit():
    names = sorted(path.stem for path in (configs_folder() / "model").glob("mambavision_*.yaml"))
    found = sorted(_jobs(["model=glob(mambavision_*)"], is_multirun=True))
    assert found == [[f"model={name}"] for name in names]


def test_jobs_keep_deletions(command):
    seen = []
    assert command(lambda cfg: seen.append([*cfg.callbacks]), "-m", "~callbacks.throughput") == 0
    assert "checkpoint" in seen[0]
    assert "throughput" not in seen[0]


def test_jobs_without_sweep_are_the_command_itself():
    assert list(_jobs(["seed=1", "data.mean=[0.5]"], is_multirun=False)) == [
        ["seed=1", "data.mean=[0.5]"]
    ]


@pytest.mark.parametrize(
    ("overrides", "is_multirun", "named"),
    [
        (["seed=1,2"], False, "seed=1,2: several values need a sweep; add -m"),
        (["seed=range(3)"], False, "seed=range(3)"),
        (["seed"], False, "'seed'; wanted key=value"),
        (["seed=[1"], True, "wanted key=value"),
        (["optimizer.lr=interval(0,1)"], True, "interval"),
    ],
)
def test_jobs_that_cannot_be_enumerated_are_refused(overrides, is_multirun, named, refusal):
    message = refusal(lambda: list(_jobs(overrides, is_multirun)))
    assert named.lower() in message.lower()


def test_sweep_runs_every_job_with_its_own_values(command):
    seen = []
    status = command(
        lambda cfg: seen.append((cfg.seed, cfg.optimizer.lr)), "-m", "seed=0,1", "optimizer=sgd"
    )
    assert status == 0
    assert seen == [(0, 0.1), (1, 0.1)]


def test_sweep_with_one_wrong_job_starts_none(command, tmp_path, capsys):
    seen = []
    assert command(lambda cfg: seen.append(cfg), "-m", "trainer.max_epochs=1,abc") == 2
    assert seen == []
    assert capsys.readouterr().err.startswith("error: trainer.max_epochs=abc: wanted int")
    assert not (tmp_path / "logs").exists()


def test_task_that_refuses_ends_in_one_line_and_status_2(command, capsys):
    def task(cfg):
        raise ConfigError("data.root=x: too\nbad")

    assert command(task) == 2
    assert capsys.readouterr().err.splitlines() == ["error: data.root=x: too bad"]


def test_sweep_goes_on_after_jobs_that_fail_and_ends_in_status_1(command, capsys):
    seen = []

    def task(cfg):
        seen.append(cfg.seed)
        if cfg.seed == 1:
            raise ConfigError("data.root=x: too bad")
        if cfg.seed == 2:
            raise SystemExit(2)  # as the workers of a job that failed end it

    assert command(task, "-m", "seed=0,1,2,3") == 1
    assert seen == [0, 1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: job 1: data.root=x: too bad"
    assert lines[-1].startswith("error: 2 of 4 jobs failed; see ")
    assert not any("Traceback" in line for line in lines)


def test_task_that_fails_keeps_its_traceback(command):
    def task(cfg):
        raise ZeroDivisionError("inside the task")

    with pytest.raises(ZeroDivisionError, match="inside the task"):
        command(task)


@pytest.mark.parametrize("option", ["ckpt_path", "model.pretrained"])
def test_link_to_weights_is_followed_when_the_command_is_given(option, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    assert _without_links(f"{option}={tmp_path}/latest") == f"{option}={tmp_path}/run"
    for value in ("", "null", "nvidia/MambaVision-T-1K", f"{tmp_path}/none"):
        assert _without_links(f"{option}={value}") == f"{option}={value}"
