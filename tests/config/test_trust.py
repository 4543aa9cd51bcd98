"""What the config of a copied run's folder may call."""

from pathlib import Path

import pytest
from composing import check, compose  # noqa: F401
from omegaconf import OmegaConf

from mambavision_lab.config.trust import check_links
from mambavision_lab.runs.snapshot import write_snapshot


@pytest.fixture
def copied(compose, tmp_path):  # noqa: F811
    """Make a run's folder in whose snapshot a node calls something."""

    def call(node: str, target: str) -> Path:
        cfg = compose("train")
        OmegaConf.update(cfg, f"{node}._target_", target, force_add=True)
        run = tmp_path / "run"
        run.mkdir()
        write_snapshot(cfg, run)
        return run

    return call


HOSTILE = [
    ("model", "os.system"),
    ("data", "subprocess.Popen"),
    ("optimizer", "torch.hub.load"),
    ("callbacks.newest", "lightning.pytorch.loggers.wandb.os.system"),
    ("callbacks.extra", "mambavision_lab.files.write_atomically"),
    ("callbacks.extra", "mambavision_lab.data.download.download"),
    ("sweep.search", "os.system"),
]


@pytest.mark.parametrize(("node", "target"), HOSTILE, ids=[f"{n}-{t}" for n, t in HOSTILE])
def test_folder_that_calls_something_else_is_refused(node, target, copied, refusal):
    run = copied(node, target)
    message = refusal(lambda: check("train", f"from_run={run}", "-m", "seed=1,2"))
    assert f"{node}._target_={target}: " in message
    assert "trust=true" in message or "there is no module" in message


def test_folder_that_is_trusted_may_call_it(copied):
    run = copied("callbacks.extra", "collections.OrderedDict")
    assert check("train", f"from_run={run}", "trust=true") == [[]]


def test_what_the_command_itself_gives_is_its_users_own(copied):
    run = copied("callbacks.extra", "lightning.pytorch.callbacks.EarlyStopping")
    given = ["~callbacks.extra", "+callbacks.mine._target_=collections.OrderedDict"]
    assert len(check("train", f"from_run={run}", *given)) == 1


def test_own_modules_are_known_unless_they_lie_in_that_folder(
    copied, tmp_path, monkeypatch, refusal
):
    run = copied("callbacks.extra", "parts_of_mine.Part")
    for folder in (tmp_path / "mine", run):
        folder.mkdir(exist_ok=True)
        (folder / "parts_of_mine.py").write_text("class Part:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    assert check("train", f"from_run={run}") == [[]]
    monkeypatch.syspath_prepend(run)
    assert "trust=true" in refusal(lambda: check("train", f"from_run={run}"))


def test_link_out_of_a_run_folder_is_refused(tmp_path, refusal):
    run, outside = tmp_path / "run", tmp_path / "bashrc"
    (run / "checkpoints").mkdir(parents=True)
    outside.touch()
    (run / "checkpoints" / "best.ckpt").touch()
    (run / "best.ckpt").symlink_to("checkpoints/best.ckpt")
    (run / "wandb").mkdir()
    (run / "wandb" / "debug.log").symlink_to(outside)
    check_links(run)
    (run / "checkpoints" / "metrics.csv").symlink_to(outside)
    assert "metrics.csv: points to a file outside" in refusal(lambda: check_links(run))
