"""A logger that fails or takes long costs a run neither its result nor its time."""

import pytest
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import Logger

from mambavision_lab.lit import tolerant_logger
from mambavision_lab.lit.tolerant_logger import tolerant


class Server(Logger):
    """Raise while it is down."""

    name, version = "server", 0

    def __init__(self, is_down=False):
        super().__init__()
        self.is_down, self.received = is_down, []

    def _answer(self, *call):
        if self.is_down:
            raise ConnectionError("no answer")
        self.received.append(call)

    @property
    def experiment(self):
        self._answer("experiment")
        return self

    def log_metrics(self, metrics, step=None):
        self._answer(metrics, step)

    def log_hyperparams(self, *args, **kwargs):
        self._answer("hyperparams")

    def save(self):
        self._answer("save")

    def finalize(self, status):
        self._answer(status)


def test_run_ends_well_while_its_logger_fails_and_says_so_once(
    make_classifier, make_loader, make_trainer, caplog
):
    server = tolerant(Server(is_down=True))
    trainer = make_trainer(max_epochs=2, logger=server)
    trainer.fit(make_classifier(), make_loader())
    assert trainer.global_step == 6
    warnings = [
        r.message
        for r in caplog.records
        if r.name == tolerant_logger.__name__ and r.levelname == "WARNING"
    ]
    assert warnings == ["logger Server fails, the run continues: ConnectionError: no answer"]
    server.is_down = False
    server.finalize("success")
    steps = [call[1] for call in server.received if isinstance(call[0], dict)]
    assert steps == sorted(steps)
    assert steps[-1] == 5
    assert not server._calls


def test_slow_logger_is_left_alone_for_a_while(monkeypatch):
    clock = [0.0]

    class Slow(Server):
        def log_metrics(self, metrics, step=None):
            clock[0] += 30
            super().log_metrics(metrics, step)

    monkeypatch.setattr(tolerant_logger.time, "monotonic", lambda: clock[0])
    slow = tolerant(Slow())
    for step in range(1000):
        slow.log_metrics({}, step)
        clock[0] += 1
    assert 1 < len(slow.received) < 6  # 30 s each
    assert clock[0] < 1000 + 6 * 30


def test_csv_logger_writes_later_what_it_could_not_write(tmp_path, monkeypatch):
    logger = tolerant(CSVLogger(tmp_path, name="", version=""))
    assert isinstance(logger, CSVLogger)
    logger.log_metrics({"a": 1.0}, 0)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(logger.experiment._fs, "open", full)
        logger.save()
        logger.log_metrics({"a": 2.0}, 1)
        assert not (tmp_path / "metrics.csv").exists()
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1.0,0", "2.0,1"]


def test_interruption_is_no_failure_of_a_logger():
    class Stop(Server):
        def save(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tolerant(Stop()).save()
