"""A folder that holds a run or a sweep is not taken over by another."""

import pytest

from mambavision_lab.runs.folder import check_unused, open_run_folder

TASKS = ("train", "eval", "predict", "export", "analyze")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mine"


@pytest.fixture
def task():
    def run(cfg):
        open_run_folder(cfg, is_latest=False)
        run.seeds.append(cfg.seed)
        return 0.5

    run.seeds = []
    return run


def test_second_run_in_a_folder_is_refused_and_a_resumed_one_is_not(command, task, folder, capsys):
    given = f"hydra.run.dir={folder}"
    assert command(task, given) == 0
    assert command(task, given, "seed=1") == 2
    advice = f"give another folder, or resume the run with resume={folder}"
    assert capsys.readouterr().err == f"error: {given}: holds a run; {advice}\n"
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert command(task, given, f"ckpt_path={checkpoint}") == 0
    assert task.seeds == [42, 42]


@pytest.mark.parametrize("name", TASKS)
def test_folder_of_a_run_is_refused_by_every_task(name, compose, folder, refusal, tmp_path):
    ckpt = tmp_path / "logs" / "run" / "best.ckpt"  # of the same folder: no other task resumes
    given = {
        "eval": ["data=digits", "model=mambavision_nano", f"ckpt_path={ckpt}"],
        "predict": [f"ckpt_path={ckpt}", "images=x"],
        "export": [f"ckpt_path={ckpt}"],
    }.get(name, [])
    given += ["+run.name=x"] if name == "export" else []
    cfg = compose(name, *given)
    check_unused(cfg)
    (tmp_path / "logs" / "run").mkdir(parents=True)
    (tmp_path / "logs" / "run" / "train.log").touch()  # a run that failed before it began
    check_unused(cfg)
    (tmp_path / "logs" / "run" / "config.yaml").touch()
    assert "holds a run; give another folder" in refusal(lambda: check_unused(cfg))
    (tmp_path / "logs" / "run" / "sweep.json").touch()
    assert "holds a sweep; give another folder" in refusal(lambda: check_unused(cfg))


def test_second_sweep_of_another_command_is_refused(command, task, folder, capsys):
    given = f"hydra.sweep.dir={folder}"
    assert command(task, "-m", "seed=1,2", given) == 0
    capsys.readouterr()
    for other in (["seed=1,3"], ["seed=1,2", "model=resnet50"], ["seed=1,3", "check=true"]):
        assert command(task, "-m", given, *other) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            f"error: {given}: that sweep is of another command: train.py -m seed"
        )
        assert "with sweep.resume" in line
    assert command(task, "-m", "seed=1,2", given) == 0  # the same one: nothing is left to do
    assert task.seeds == [1, 2]


def test_sweep_and_run_do_not_share_a_folder(command, task, folder, capsys):
    assert command(task, f"hydra.run.dir={folder}") == 0
    assert command(task, "-m", "seed=1,2", f"hydra.sweep.dir={folder}") == 2
    assert (
        capsys.readouterr().err
        == f"error: hydra.sweep.dir={folder}: holds a run; give another folder\n"
    )


def test_folder_that_hydra_cannot_name_is_refused(command, task, tmp_path, capsys):
    (tmp_path / "a${b}").mkdir()
    for option in (["hydra.run.dir={}"], ["-m", "hydra.sweep.dir={}"], ["paths.log_dir={}"]):
        assert command(task, *(o.format(tmp_path / "a${b}" / "x") for o in option)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a run's folder cannot have ${ in its name" in line
    assert task.seeds == []
