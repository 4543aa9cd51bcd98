"""The scripts in examples/ run, each as a reader would start it, and the notebooks are the scripts."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = ("train_in_python", "own_lightning_module", "read_a_run")
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
    tested = {"run_from_python", "plain_loop", *NOTEBOOKS}
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


@pytest.fixture
def notebooks(monkeypatch):
    """The script that writes the notebooks."""
    monkeypatch.syspath_prepend(EXAMPLES.parent / "docs")
    import make_notebooks

    yield make_notebooks
    sys.modules.pop("make_notebooks")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_its_script_without_outputs(notebooks, name):
    stored = (EXAMPLES / f"{name}.ipynb").read_text()
    assert stored == notebooks.as_text(notebooks.read_notebook(name)), "call make notebooks"
    assert '"output_type"' not in stored
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {*notebooks.NOTEBOOKS}


def test_notebooks_without_the_extra_are_refused(notebooks, monkeypatch, refusal, tmp_path):
    monkeypatch.setitem(sys.modules, "nbclient", None)
    notebook = notebooks.read_notebook("read_a_run")
    assert "mambavision-lab[notebooks]" in refusal(lambda: notebooks.execute(notebook, tmp_path))
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert "needs jupytext" in refusal(lambda: notebooks.read_notebook("read_a_run"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("train_in_python", "true class:"),
        ("own_lightning_module", "without knowledge it is 1.386"),
        ("read_a_run", "494074 parameters"),
    ],
)
def test_notebook_runs(notebooks, tmp_path, monkeypatch, name, prints):
    path = str(EXAMPLES.parent / "src")
    monkeypatch.setenv("PYTHONPATH", path)
    assert prints in notebooks.execute(notebooks.read_notebook(name), tmp_path)
