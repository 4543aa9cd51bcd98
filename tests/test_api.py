"""The tasks from Python: compose, train, evaluate, predict and export, as a notebook calls them."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

import mambavision_lab as lab

TOY = (
    "trainer=cpu trainer.max_epochs=1 scheduler.warmup_epochs=0.5 data.num_train=64 data.num_val=32 "
    "data.num_test=32 data.image_size=16 data.num_classes=3 model.stem_dim=4 model.embed_dim=8 "
    "model.depth=2 model.num_heads=2 model.d_state=4"
).split()


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """A working folder of this test's own, and no environment variable of ours."""
    for name in ("MAMBAVISION_ROOT", "MAMBAVISION_LOGS", "MAMBAVISION_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_run_from_python_is_that_of_the_command_line(tmp_path):
    handlers = logging.getLogger().handlers[:]
    cfg = lab.compose("train", TOY)
    other = lab.compose("train", [*TOY, "seed=5"])  # a notebook composes several
    value = lab.train(cfg)
    run = Path(cfg.paths.output_dir)
    assert run.parent == tmp_path / "logs" / "train" / "mambavision_nano-synthetic"
    metrics = json.loads((run / "metrics.json").read_text())
    assert value == metrics["val/acc1"]
    assert (metrics["epoch"], metrics["step"]) == (1, 2)
    present = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert present >= {"config.yaml", "overrides.yaml", "train.log", "report.html"}
    assert OmegaConf.load(run / "overrides.yaml") == TOY
    assert json.loads((run / "provenance.json").read_text())["command"] is None
    assert not Path(other.paths.output_dir).exists()
    assert logging.getLogger().handlers == handlers

    again = lab.compose("train", [f"from_run={run}"])
    assert again.paths.output_dir != cfg.paths.output_dir
    assert lab.train(again) == value

    evaluation = lab.compose("eval", [f"from_run={run}", "trainer=cpu"])
    assert lab.evaluate(evaluation) == metrics["test/acc1"]

    Image.new("RGB", (20, 20), "teal").save("cat.png")
    cfg = lab.compose("predict", [f"from_run={run}", "images=cat.png"])
    lab.predict(cfg)
    assert (Path(cfg.paths.output_dir) / "predictions.csv").is_file()

    lab.export(lab.compose("export", [f"from_run={run}", "export=safetensors", "output=saved"]))
    assert Path("saved", "model.safetensors").is_file()


def test_compose_refuses_what_the_command_refuses(refusal):
    message = refusal(lambda: lab.compose("train", ["trainer.devcies=2"]))
    assert "did you mean 'devices'?" in message
    assert "several values need a sweep" in refusal(lambda: lab.compose("train", ["seed=1,2"]))
    assert "ckpt_path is missing" in refusal(lambda: lab.compose("eval"))
    assert "no such task; choose" in refusal(lambda: lab.compose("trian"))
    assert "no such task; choose" in refusal(lambda: lab.compose(["seed=1"]))
    assert 'wanted a list of them, ["seed=1"]' in refusal(lambda: lab.compose("train", "seed=1"))
    for flag in ("-m", "--help"):
        assert "compose takes overrides" in refusal(lambda f=flag: lab.compose("train", [f]))


def test_changed_config_is_checked_again(refusal):
    cfg = lab.compose("train", TOY)
    cfg.trainer.max_epochs = "many"
    assert "trainer.max_epochs=many: wanted int" in refusal(lambda: lab.train(cfg))
    cfg.trainer.max_epochs = "${nope}"
    assert "nope" in refusal(lambda: lab.train(cfg))
    unknown = OmegaConf.create({"paths": {"output_dir": "x"}})
    assert "mambavision_lab.compose" in refusal(lambda: lab.train(unknown))
    assert "compose('train')" in refusal(lambda: lab.train(lab.compose("analyze")))


def test_composed_config_can_be_resolved_by_itself():
    cfg = lab.compose("train", ["logger=wandb", "logger.wandb.offline=true"])
    assert OmegaConf.to_container(cfg, resolve=True)["logger"]["wandb"]["group"] is None


def test_config_folder_of_ones_own_is_searched_beside_the_packages(tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /model: mambavision_tiny\nseed: 11\n"
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text(text)
    cfg = lab.compose("train", ["experiment=ours"], config_dir="mine")
    assert (cfg.seed, cfg.model.embed_dim) == (11, 192)


def test_composing_imports_no_torch():
    program = (
        "import sys, mambavision_lab; mambavision_lab.compose('train', ['trainer=cpu'])\n"
        "print(sorted({'torch', 'lightning', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_functions_are_not_hidden_by_packages_of_their_names():
    import mambavision_lab.explainers.methods
    import mambavision_lab.exporters.onnx  # noqa: F401

    for name in (
        "compose",
        "train",
        "evaluate",
        "predict",
        "export",
        "analyze",
        "preview",
        "explain",
    ):
        assert callable(getattr(lab, name))
