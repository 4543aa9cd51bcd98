"""The scripts in examples/ run, each as a reader would start it."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TOY = (
    "trainer=debug scheduler.warmup_epochs=0 model.stem_dim=8 model.embed_dim=32 model.depth=2 "
    "model.num_heads=2"
).split()


def load(name: str):
    """Import a script without running its command line."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    for name in ("MAMBAVISION_ROOT", "MAMBAVISION_LOGS", "MAMBAVISION_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_example_has_a_test():
    tested = {"run_from_python", "plain_loop"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_run_from_python(capsys):
    load("run_from_python").main(TOY)
    out = capsys.readouterr().out
    assert "test/acc1" in out
    assert out.rstrip().endswith(")]")  # two classes with their probabilities


def test_plain_loop(capsys):
    accuracy = load("plain_loop").main(1, num_train=320, num_val=100)
    assert 0 <= accuracy <= 1
    assert capsys.readouterr().out.count("epoch") == 1
