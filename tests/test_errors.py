import errno
import functools
import types

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.errors import ConfigError, RunError, explain, first_line, reason, refuse


def raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def missing_key():
    cfg = OmegaConf.create({"trainer": {}}, flags={"struct": True})
    with pytest.raises(OmegaConfBaseException) as caught:
        _ = cfg.trainer.devices
    return caught.value


def raise_in(module: str, error: Exception):
    """Raise an error in code of a module of that name."""
    code = types.ModuleType(module)
    exec("def act(error): raise error", code.__dict__)
    return raised(lambda: code.act(error))


def test_reason_is_one_line_and_never_empty():
    assert reason(ValueError("two\n  lines")) == "two lines"
    assert reason(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert reason(ValueError("x" * 500), max_length=10) == "x" * 10


def test_config_error_of_a_loader_worker_is_the_message_alone():
    text = (
        "Caught ConfigError in DataLoader worker process 0.\nTraceback ...\nx.ConfigError: a: bad"
    )
    assert str(ConfigError(text)) == "a: bad"


def test_first_line_of_a_message_is_one_line_and_never_empty():
    assert first_line(ValueError("  a \t b\nc")) == "a b"
    assert first_line(ValueError("")) == "ValueError"


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(errno.ENOSPC, "No space left", "x.ckpt"), "No space left: 'x.ckpt'; free some"),
        (PermissionError(errno.EACCES, "denied", "/logs"), "denied: '/logs'; choose a folder"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "read the output has ended: add > FILE"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"), "free some"),
        (MemoryError(), "MemoryError; lower data.batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "lower data.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "lower data.batch"),
        (RuntimeError("CUDA error: out of memory"), "lower data.batch_size"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "lower data.batch_size"),
        (RuntimeError("MPS backend out of memory (MPS allocated"), "lower data.batch_size"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "lower data.num_workers or data.batch"),
        (RuntimeError("unable to write to file </torch_1_2>: No space left"), "--shm-size"),
        (RuntimeError("received 0 items of ancdata"), "raise the limit with ulimit -n"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "num_workers"),
        (
            type("InductorError", (RuntimeError,), {})("no compiler\nmore"),
            "no compiler; choose classif",
        ),
        (FloatingPointError("train/loss is nan"), "train/loss is nan"),
    ],
)
def test_failures_of_the_system_are_explained_with_status_1(error, wanted):
    known = explain(error)
    assert isinstance(known, RunError)
    assert known.status == 1
    assert wanted in str(known)
    assert "\n" not in str(known)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MisconfigurationException("no such\nkey"), "no such key"),
        (missing_key(), "trainer.devices: is missing"),
        (raise_in("lightning.pytorch.loops.fit_loop", ValueError("too large")), "too large"),
        (raise_in("torch.optim.adamw", RuntimeError("no fused")), "no fused"),
        (
            RuntimeError("x has no deterministic way; torch.use_deterministic_algorithms(True)"),
            "trainer.deterministic=warn",
        ),
    ],
)
def test_refusals_of_lightning_and_torch_are_explained_with_status_2(error, wanted):
    known = explain(error)
    assert isinstance(known, ConfigError)
    assert known.status == 2
    assert wanted in str(known)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("ours"),
        raise_in("mambavision_lab.lit.schedule", ValueError("ours")),
        raise_in("lightning.pytorch.loops.fit_loop", AttributeError("a slip")),
        raised(functools.partial(torch.zeros(2).view, 3)),
    ],
)
def test_errors_in_the_code_are_not_explained(error):
    assert explain(error) is None


def test_refusing_prints_one_line_and_exits_with_the_errors_status(capsys):
    for error, status in ((ConfigError("a\nb"), 2), (RunError("a\nb"), 1)):
        with pytest.raises(SystemExit) as stop:
            refuse(error)
        assert stop.value.code == status
        assert capsys.readouterr().err == "error: a b\n"
