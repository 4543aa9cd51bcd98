"""Options that Hydra would accept and ignore are refused, wherever they have no effect."""

import pytest
from composing import check

from mambavision_lab.config.command_options import check_used
from mambavision_lab.config.compose import hydra_config
from mambavision_lab.launch import check_command


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("-m hydra.sweep.subdir=x", "would be ignored; the jobs of a sweep are numbered folders"),
        ("hydra.mode=MULTIRUN", "would be ignored; give -m"),
        ("hydra/sweeper=basic", "would be ignored; sweep=grid or sweep=optuna"),
        ("+hydra.job.num=3", "would be ignored; Hydra sets it"),
        ("hydra.runtime.output_dir=x", "would be ignored; Hydra sets it"),
        ("paths.output_dir=x", "would be ignored; give hydra.run.dir=FOLDER"),
        ("sweep=optuna", "sweep=optuna: belongs to a sweep; add -m"),
        ("hydra/launcher=joblib", "belongs to a sweep; add -m"),
        ("hydra.sweep.dir=x", "belongs to a sweep; add -m"),
        ("sweep.resume=x", "only a sweep can be resumed; add -m"),
        ("-m hydra.run.dir=x", "belongs to a single run; give hydra.sweep.dir=FOLDER"),
    ],
)
def test_option_without_effect_is_refused(arguments, named, refusal):
    *flags, override = arguments.split()
    message = refusal(lambda: check_used(override, is_multirun=bool(flags)))
    assert message.startswith(override)
    assert named in message


@pytest.mark.parametrize(
    "arguments",
    [
        *("hydra.run.dir=x", "hydra.job.name=x", "-m sweep=optuna", "-m hydra.sweep.dir=x"),
        *("-m hydra.launcher.n_jobs=2", "hydra.verbose=true", "hydra.output_subdir=x", "seed=1"),
    ],
)
def test_option_with_an_effect_is_not_refused(arguments):
    *flags, override = arguments.split()
    check_used(override, is_multirun=bool(flags))


@pytest.fixture
def mine(tmp_path):
    """A folder with an experiment that has a sweep of its own, and one that has none."""
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /sweep: optuna\n"
    (tmp_path / "experiment" / "searched.yaml").write_text(text)
    (tmp_path / "experiment" / "other.yaml").write_text("# @package _global_\nseed: 1\n")
    return str(tmp_path)


def test_job_with_a_sweep_of_its_own_is_refused(mine, refusal):
    given = ["--config-dir", mine, "-m", "experiment=other,searched"]
    message = refusal(lambda: check("train", *given))
    assert message.startswith("experiment=searched: has a sweep of its own")


def test_experiment_with_a_sweep_of_its_own_is_swept_so(mine):
    pytest.importorskip("optuna")
    given = ["--config-dir", mine, "-m", "experiment=searched", "optimizer.lr=interval(1e-4,1e-2)"]
    ends = [["experiment=searched", f"optimizer.lr={lr}"] for lr in (0.0001, 0.01)]
    assert check("train", *given) == ends


def test_checked_configs_are_those_of_the_jobs(command, mine, monkeypatch):
    checked, ran, check_job = [], [], check_command.check_job

    def record(prepared, overrides):
        cfg = check_job(prepared, overrides)
        with hydra_config(cfg):
            checked.append(values(cfg))
        return cfg

    def task(cfg):
        ran.append(values(cfg))

    def values(cfg):
        return cfg.name, cfg.seed, cfg.model._target_, cfg.sweep.search._target_

    monkeypatch.setattr(check_command, "check_job", record)
    given = ["--config-dir", mine, "-m", "experiment=other", "model=mambavision_nano,resnet50"]
    assert command(task, *given) == 0
    assert len(ran) == 2
    assert checked == ran
