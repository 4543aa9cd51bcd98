import pytest
from omegaconf import OmegaConf

from mambavision_lab.runs.snapshot import find_snapshot, write_snapshot


@pytest.fixture
def trained(compose, tmp_path):
    """A run folder with a checkpoint, and the config of its run."""
    cfg = compose("train", "data=cifar10", "model.depth=4", "data.batch_size=77", "name=first")
    run = tmp_path / "logs" / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").touch()
    write_snapshot(cfg, run)
    return run, OmegaConf.to_container(cfg, resolve=True)


@pytest.fixture
def evaluation(compose, trained):
    """Compose an evaluation of the trained run; returns plain values."""
    run, _ = trained
    given = [f"ckpt_path={run}/checkpoints/best.ckpt"]
    snapshot = (f"run://{run}/snapshot",)
    return lambda *overrides: OmegaConf.to_container(
        compose("eval", *given, *overrides, others=snapshot), resolve=True
    )


def test_snapshot_gives_an_evaluation_the_trained_configuration(trained, evaluation):
    _, before = trained
    cfg = evaluation()
    assert cfg["model"] == before["model"]
    assert cfg["classifier"] == before["classifier"]
    assert cfg["data"] == before["data"] | {"augment": None}
    assert cfg["run"] == {"name": "first"}
    assert evaluation("data.batch_size=5")["data"]["batch_size"] == 5


def test_snapshot_lets_other_data_reach_the_model_unless_as_trained(evaluation):
    for choice, num_classes in (("snapshot", 100), ("as_trained", 10)):
        cfg = evaluation("data=cifar100", f"model={choice}")
        assert cfg["data"]["num_classes"] == 100
        assert cfg["model"]["num_classes"] == num_classes
        assert cfg["model"]["depth"] == 4
    assert evaluation("data=cifar100")["model"]["num_classes"] == 10  # evaluation's own choice


def test_snapshot_composes_again_to_the_same_config(trained, compose):
    run, before = trained
    again = compose("snapshot", location=f"run://{run}/snapshot")
    assert OmegaConf.to_container(again, resolve=True) == before
    changed = compose("snapshot", "data.num_classes=3", location=f"run://{run}/snapshot")
    assert changed.model.num_classes == 3


def test_snapshot_as_trained_has_every_value_filled_in(trained):
    run, before = trained
    files = list((run / "snapshot").rglob("as_trained.yaml"))
    assert {file.parent.name for file in files} >= {"model", "data", "classifier", "trainer", "run"}
    model = OmegaConf.to_container(OmegaConf.load(run / "snapshot" / "model" / "as_trained.yaml"))
    # This alone is left open: another machine has another backend.
    assert model == before["model"] | {"scan_backend": "${ops.selective_scan.backend}"}
    files.remove(run / "snapshot" / "model" / "as_trained.yaml")
    assert not [file for file in files if "${" in file.read_text()]


def test_snapshot_keeps_what_is_absent_absent(compose, tmp_path):
    choices = ["augment=none", "logger=none", "callbacks=none", "seed=null"]
    cfg = compose("train", *choices)
    before = OmegaConf.to_container(cfg, resolve=True)
    write_snapshot(cfg, tmp_path)
    again = compose("snapshot", location=f"run://{tmp_path}/snapshot")
    assert OmegaConf.to_container(again, resolve=True) == before
    assert again.augment is again.logger is again.callbacks is again.seed is None


def test_find_snapshot_from_anything_in_the_run_folder(trained, tmp_path, monkeypatch):
    run, _ = trained
    (run.parent / "latest").symlink_to("run")
    monkeypatch.chdir(run / "checkpoints")
    for path in (run, run / "checkpoints" / "best.ckpt", run.parent / "latest" / "checkpoints"):
        assert find_snapshot(str(path)).resolve() == (run / "snapshot").resolve()
    assert find_snapshot("best.ckpt") == run / "snapshot"


def test_find_snapshot_refuses_what_lies_in_no_run(trained, tmp_path, refusal):
    missing, stray = tmp_path / "logs" / "run" / "no.ckpt", tmp_path / "stray.ckpt"
    stray.touch()
    assert f"ckpt_path={missing}: no such file" in refusal(lambda: find_snapshot(str(missing)))
    assert f"ckpt_path={stray}: no run folder around" in refusal(lambda: find_snapshot(str(stray)))
