import socket
import sys
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

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
    spoil, reason, stub_wandb, monkeypatch, caplog, refusal, tmp_path
):
    spoil(stub_wandb, monkeypatch)
    folder = str(tmp_path)
    options = loggers.wandb_logger(folder, "project", group="night")
    assert options.pop("id")
    assert options == {
        "save_dir": folder,
        "project": "project",
        "name": None,
        "group": "night",
        "offline": True,
        "mode": "offline",
        "resume": "allow",
        "settings": {"init_timeout": 60, "finish_timeout": 300},
    }
    assert [reason in message for message in caplog.messages] == [True]
    message = refusal(lambda: loggers.wandb_logger(folder, "project", offline=False))
    assert message.startswith("logger.wandb.offline=false, but ")
    assert reason in message


@pytest.mark.parametrize("offline", [None, True, False])
def test_wandb_logger_follows_its_option_where_it_can(offline, stub_wandb, caplog, tmp_path):
    options = loggers.wandb_logger(str(tmp_path), "project", offline=offline)
    assert options["offline"] is bool(offline)
    assert caplog.messages == []


def test_wandb_logger_continues_its_run_in_the_same_folder(stub_wandb, tmp_path):
    first, second = (loggers.wandb_logger(str(tmp_path), "project") for _ in range(2))
    assert len(first["id"]) == 8
    assert (second["id"], second["resume"]) == (first["id"], "allow")
    assert loggers.wandb_logger(str(tmp_path / "other"), "project")["id"] != first["id"]


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def log(start):
        logger = TensorBoardLogger(tmp_path, name="", version="")
        if start:
            loggers.resume_loggers([logger], num_steps=start, has_open_epoch=False)
        for step in range(start, start + 3):
            logger.log_metrics({"train/loss": start + step / 10}, step)
        logger.finalize("success")

    log(0)
    log(2)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(e.step, round(e.value, 3)) for e in events] == [
        *[(0, 0.0), (1, 0.1), (2, 2.2), (3, 2.3), (4, 2.4)]
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
