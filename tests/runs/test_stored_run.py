"""A run folder that was written before modules and options were renamed: everything still takes it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from composing import check

from mambavision_lab.config.renames import current_target, upgrade_settings, upgrade_snapshot
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.runs.snapshot import find_snapshot

CROSS_ENTROPY = "mambavision_lab.lit.losses.CrossEntropy"
STORED = Path(__file__).with_name("stored_run")


@pytest.fixture
def stored(tmp_path) -> Path:
    """A copy, for runs write beside their checkpoints."""
    return Path(shutil.copytree(STORED, tmp_path / "stored"))


def composed(command, *arguments) -> dict:
    """Config of a run that starts from the stored one."""
    seen = []
    assert command(seen.append, *arguments) == 0
    return seen[0]


def test_stored_snapshot_is_composed_with_todays_names(command, stored):
    cfg = composed(command, f"from_run={stored}")
    assert cfg.launcher.max_restarts == 1  # was trainer.max_restarts
    assert "max_restarts" not in cfg.trainer
    assert cfg.sweep.search._target_ == "mambavision_lab.launch.sweeps.grid.GridSearch"
    assert cfg.optimizer.lr == 2e-3
    assert cfg.callbacks.freeze.epochs == 1
    assert cfg.loss == {"_target_": CROSS_ENTROPY, "smoothing": 0.1}  # was the classifier's
    assert "label_smoothing" not in cfg.classifier


def test_stored_snapshot_takes_changes_on_top(command, stored):
    cfg = composed(command, f"from_run={stored}", "data=cifar10", "launcher.max_restarts=0")
    assert (cfg.model.num_classes, cfg.launcher.max_restarts) == (10, 0)
    assert check("train", "-m", f"from_run={stored}", "seed=1,2") == [["seed=1"], ["seed=2"]]


def test_stored_checkpoint_is_evaluated_to_the_metrics_of_its_run(call, stored):
    status, _, err = call("eval", f"from_run={stored}", "trainer=cpu")
    assert status == 0, err
    (evaluated,) = (stored.parent / "logs" / "eval").rglob("metrics.json")
    before, now = (json.loads(p.read_text()) for p in (stored / "metrics.json", evaluated))
    for name in ("test/loss", "test/acc1"):
        assert now[name] == pytest.approx(before[name], rel=1e-6)


def test_stored_run_predicts(stored):
    net = MambaVisionInference(stored)
    assert net.class_names == ["disc-plain", "bar-plain", "triangle-plain"]


def test_stored_files_stay_as_they_are(stored):
    check("train", f"from_run={stored}")
    assert find_snapshot(str(stored), "from_run") == stored / "snapshot"  # its checksums hold
    for path in sorted(p for p in STORED.rglob("*") if p.is_file()):
        assert path.read_bytes() == (stored / path.relative_to(STORED)).read_bytes()


def test_stored_checkpoint_callback_is_two_today():
    path = STORED / "snapshot" / "callbacks" / "as_trained.yaml"
    before = yaml.safe_load(path.read_text())
    now = upgrade_snapshot("callbacks", before, {})
    dirpath = before["checkpoint"]["dirpath"]
    assert now["checkpoint"] == {
        "_target_": "mambavision_lab.lit.callbacks.best_checkpoint.BestCheckpoint",
        "dirpath": dirpath,
        "filename": "best",
        "monitor": "val/acc1",
        "mode": "max",
        "save_top_k": 1,
    }
    assert now["newest"]["dirpath"] == dirpath
    assert now["freeze"] == before["freeze"]


def test_stored_settings_of_a_checkpoint_have_todays_names():
    stored = {"seed": 1, "classifier.label_smoothing": 0.2}
    now = {"seed": 1, "loss._target_": CROSS_ENTROPY, "loss.smoothing": 0.2}
    assert upgrade_settings(stored) == upgrade_settings(now) == now


def test_checkpoint_callbacks_of_the_user_stay_as_they_are():
    node = {"checkpoint": {"_target_": "mine.Best", "dirpath": "x", "save_last": True}}
    assert upgrade_snapshot("callbacks", node, {}) == node
    own = {"checkpoint": None, "other": {"_target_": "mine.Best"}}
    assert upgrade_snapshot("callbacks", own, {}) == own


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("mambavision_lab.launch.sweepers.grid.GridSearch", "mambavision_lab.launch.sweeps.grid."),
        ("mambavision_lab.export.onnx.OnnxFormat", "mambavision_lab.exporters.onnx.OnnxFormat"),
        ("torch.optim.adamw.AdamW", "torch.optim.adamw.AdamW"),
    ],
)
def test_old_module_paths_are_mapped(before, now):
    assert current_target(before).startswith(now)


def test_every_target_of_the_stored_run_exists_today():
    from hydra.utils import get_object

    targets = set()
    for path in (STORED / "snapshot").rglob("*.yaml"):
        node = upgrade_snapshot(path.parent.name, yaml.safe_load(path.read_text()), {})
        targets |= {current_target(t) for t in _targets(node)}
    assert len(targets) >= 10
    for target in targets:
        assert callable(get_object(target)), target


def _targets(node):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from [value] if key == "_target_" else _targets(value)
