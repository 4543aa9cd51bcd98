import socket
import sys
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger

from mambavision_lab.lit import loggers


@pytest.fixture
def stub_wandb(monkeypatch):
    """Stand in for wandb with an API key and a reachable server."""
    settings = SimpleNamespace(mode="online", base_url="https://api.example.org")
    wandb = SimpleNamespace(
        setup=lambda: SimpleNamespace(settings=settings), login=lambda prompt: True
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(loggers, "WandbLogger", lambda **options: options)
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: socket.socket())
    return wandb


def refuse(address, timeout):
    raise OSError(f"no way to port {address[1]}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda wandb, patch: patch.setattr(wandb.setup().settings, "mode", "offline"),
            "WANDB_MODE=offline",
        ),
        (lambda wandb, patch: patch.setattr(wandb, "login", lambda prompt: False), "no API key"),
        (
            lambda wandb, patch: patch.setattr(socket, "create_connection", refuse),
            "api.example.org cannot be reached: no way to port 443",
        ),
    ],
    ids=["mode", "key", "network"],
)
def test_wandb_logger_writes_offline_and_logs_why(
    spoil, reason, stub_wandb, monkeypatch, caplog, refusal
):
    spoil(stub_wandb, monkeypatch)
    options = loggers.wandb_logger("folder", "project", group="night")
    assert options == {
        "save_dir": "folder",
        "project": "project",
        "name": None,
        "group": "night",
        "offline": True,
        "mode": "offline",
        "settings": {"init_timeout": 60, "finish_timeout": 300},
    }
    assert [reason in message for message in caplog.messages] == [True]
    message = refusal(lambda: loggers.wandb_logger("folder", "project", offline=False))
    assert message.startswith("logger.wandb.offline=false, but ")
    assert reason in message


@pytest.mark.parametrize("offline", [None, True, False])
def test_wandb_logger_follows_its_option_where_it_can(offline, stub_wandb, caplog):
    options = loggers.wandb_logger("folder", "project", offline=offline)
    assert options["offline"] is bool(offline)
    assert caplog.messages == []


def test_csv_logger_resumes_with_the_metrics_before_the_checkpoint(tmp_path):
    interrupted, resumed = (CSVLogger(tmp_path, name="", version="") for _ in range(2))
    for step in range(4):
        interrupted.log_metrics({"train/loss": 4.0 - step}, step)
    interrupted.save()
    loggers.restore_csv_metrics([resumed], num_steps=2, has_open_epoch=False)
    resumed.log_metrics({"train/loss": 0.5, "val/loss": 0.25}, 2)
    resumed.save()
    rows = [row.split(",") for row in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert rows == [
        ["step", "train/loss", "val/loss"],
        ["0", "4.0", ""],
        ["1", "3.0", ""],
        ["2", "0.5", "0.25"],
    ]


def test_wandb_is_given_a_snapshot_that_from_run_takes(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "snapshot" / "model").mkdir(parents=True)
    files = ["snapshot/snapshot.yaml", "snapshot/model/snapshot.yaml", "provenance.json"]
    files.append("snapshot/checksums.sha256")
    for name in files:
        (run / name).write_text(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = loggers.wandb_logger(str(run), "project")
    logged = []
    monkeypatch.setattr(type(logger.experiment), "log_artifact", lambda _, it: logged.append(it))
    loggers.log_snapshot([logger], run)
    logger.experiment.finish()
    (artifact,) = logged
    assert artifact.type == "snapshot"
    # Laid out as the run folder is, so that what is downloaded reads like one.
    assert {name: entry.local_path for name, entry in artifact.manifest.entries.items()} == {
        name: str(run / name) for name in files
    }
