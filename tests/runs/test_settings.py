import pytest
from omegaconf import OmegaConf

from mambavision_lab.runs.settings import (
    TEACHER,
    check_same_as_run,
    check_same_settings,
    settings_of,
)


@pytest.fixture
def cfg(compose):
    """A composed config of a run that resumes, and may be changed."""
    cfg = compose("train", "callbacks=early_stopping", "ckpt_path=last.ckpt")
    OmegaConf.set_struct(cfg, False)
    return cfg


def test_resume_with_another_setting_is_refused(cfg, refusal):
    before = settings_of(cfg)
    given_augment = [k for k, x in before.items() if k.startswith("augment.") and x is not None]
    for key, value, given, kept in (
        ("optimizer.lr", 0.1, "optimizer.lr=0.1", "optimizer.lr=0.001"),
        ("optimizer._target_", "torch.optim.SGD", "optimizer=SGD", "optimizer=AdamW"),
        ("optimizer.amsgrad", True, "optimizer.amsgrad=True", "optimizer.amsgrad=null"),
        ("scheduler", None, "scheduler=null (and 4 more)", "scheduler=cosine_with_warmup"),
        ("scheduler.min_lr_ratio", 0, "scheduler.min_lr_ratio=0", "scheduler.min_lr_ratio=0.01"),
        ("model.depth", 6, "model.depth=6", "model.depth=4"),
        ("data.batch_size", 8, "data.batch_size=8", "data.batch_size=32"),
        ("augment", None, f"augment=null (and {len(given_augment) - 1} more)",
         "augment=Augment"),
        ("augment.shift", 0.5, "augment.shift=0.5", "augment.shift=0.1"),
        ("seed", 7, "seed=7", "seed=42"),
        ("trainer.precision", "16-mixed", "trainer.precision=16-mixed", "trainer.precision=32-true"),
        ("trainer.accumulate_grad_batches", 2, "trainer.accumulate_grad_batches=2",
         "trainer.accumulate_grad_batches=1"),
        ("callbacks.early_stopping.patience", 3, "callbacks.early_stopping.patience=3",
         "callbacks.early_stopping.patience=10"),
    ):  # fmt: skip
        changed = cfg.copy()
        OmegaConf.update(changed, key, value, merge=False)
        message = refusal(lambda cfg=changed: check_same_settings(cfg, before))
        start = f"{given}: ckpt_path=last.ckpt is of a run with {kept}, and restores that; give "
        assert message.startswith(start)
        assert message.endswith("or resume=weights to start from its weights with the new settings")


def test_what_a_checkpoint_does_not_restore_may_differ(cfg):
    before = settings_of(cfg)
    for key, value in (
        ("trainer.max_epochs", 20),
        ("trainer.devices", 2),
        ("trainer.gradient_clip_algorithm", None),
        ("logger", None),
        ("callbacks", None),
        ("name", "other"),
        ("data.num_workers", 3),
        ("data.check_files", False),
        ("classifier.use_compile", True),
        ("model.scan_backend", "torch"),
    ):
        OmegaConf.update(cfg, key, value, merge=False)
    check_same_settings(cfg, before)


def test_teacher_of_a_resumed_run_may_have_been_moved_but_not_replaced(cfg, refusal, tmp_path):
    before = settings_of(cfg) | {TEACHER: str(tmp_path / "before")}
    OmegaConf.update(cfg, "loss.teacher", {"source": str(tmp_path / "now")}, merge=False)
    check_same_settings(cfg, before)
    (tmp_path / "before").mkdir()
    assert f"{TEACHER}={tmp_path}/now: " in refusal(lambda: check_same_settings(cfg, before))


def test_refused_resume_names_what_to_type(cfg, refusal, tmp_path):
    (tmp_path / "snapshot").mkdir()
    before = settings_of(cfg)
    cfg.ckpt_path, cfg.seed = str(tmp_path / "checkpoints" / "last.ckpt"), 7
    message = refusal(lambda: check_same_settings(cfg, before))
    assert f"give seed=42 or from_run={tmp_path}, or resume=weights " in message


def test_settings_of_an_older_checkpoint_are_those_of_today(cfg, refusal):
    """They name the loss otherwise, the augmentation at another place, and lack what is new."""
    before = {k: x for k, x in settings_of(cfg).items() if not k.startswith("loss.")}
    before |= {"classifier.label_smoothing": 0.1}
    before["augment._target_"] = "mambavision_lab.data.augment.Augment"
    for key in ("data.sampler", "augment.repeats", "augment.mix_prob", "augment.padding"):
        del before[key]
    check_same_settings(cfg, before)
    cfg.loss.smoothing = 0.2
    assert refusal(lambda: check_same_settings(cfg, before)).startswith("loss.smoothing=0.2: ")
    cfg.loss.smoothing, cfg.augment.repeats = 0.1, 3
    message = refusal(lambda: check_same_settings(cfg, before))
    assert "of a run with augment.repeats=1, and restores that" in message


def test_resume_is_held_to_the_config_in_the_folder_of_its_run(cfg, refusal, tmp_path):
    cfg.ckpt_path = str(tmp_path / "checkpoints" / "last.ckpt")
    run = tmp_path / "config.yaml"
    before = cfg.copy()
    cfg.optimizer.lr, cfg.seed = 0.1, None
    check_same_as_run(cfg)  # the checkpoint lies in no run folder
    OmegaConf.save(before, run, resolve=True)
    message = refusal(lambda: check_same_as_run(cfg))
    assert message.startswith(f"optimizer.lr=0.1: ckpt_path={cfg.ckpt_path} is of a run with ")
    cfg.resume = "weights"
    check_same_as_run(cfg)
    cfg.resume, cfg.optimizer.lr = "exact", before.optimizer.lr
    check_same_as_run(cfg)  # and seed=null is the run's
    del before["resume"]  # of an earlier version
    before.optimizer.lr = 0.2
    OmegaConf.save(before, run, resolve=True)
    check_same_as_run(cfg)
