"""The best checkpoint: its score is that of a validation of its own weights."""

import pytest
import torch

from mambavision_lab.lit.callbacks.best_checkpoint import BestCheckpoint, Validation, find_best
from mambavision_lab.lit.callbacks.newest_checkpoint import NewestCheckpoint
from mambavision_lab.lit.image_classifier import ImageClassifier


class Scripted(ImageClassifier):
    """A classifier whose validations have given accuracies."""

    scores = iter(())

    def on_validation_epoch_end(self):
        self.log("val/acc1", next(self.scores))
        self.log("val/loss", 1.0)


@pytest.fixture
def fit(make_net, make_loader, make_trainer, tmp_path):
    """Train with scripted scores, three steps an epoch; returns trainer and callback."""

    def run(*scores, ckpt_path=None, folder=tmp_path, trainer_options=None, **options):
        classifier = Scripted(
            make_net(),
            num_classes=3,
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        )
        classifier.scores = iter(scores)
        callback = BestCheckpoint(folder, **{"monitor": "val/acc1", "mode": "max", **options})
        trainer = make_trainer(
            **{"max_epochs": len(scores), **(trainer_options or {})},
            callbacks=[callback, NewestCheckpoint(folder)],
            enable_checkpointing=True,
        )
        loaders = make_loader(), make_loader()
        trainer.fit(classifier, *loaders, ckpt_path=ckpt_path, weights_only=True)
        return trainer, callback

    return run


def step_of(path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_best_checkpoint_is_the_best_and_the_later_of_two_equal_ones(fit, tmp_path):
    trainer, callback = fit(0.1, 0.4, 0.2, 0.4, 0.3)
    assert callback.best_validation == Validation(pytest.approx(0.4), 3, 12)
    assert callback.best_model_path == str(tmp_path / "best.ckpt")
    assert step_of(tmp_path / "best.ckpt") == 12
    assert find_best(trainer) == (
        str(tmp_path / "best.ckpt"),
        "best of epoch 4, step 12: val/acc1 40.00%",
        4,
        12,
    )
    assert files(tmp_path) == ["best.ckpt", "last.ckpt"]


def test_best_checkpoint_of_several_is_best_ckpt(fit, tmp_path):
    _, callback = fit(0.5, 0.4, 0.1, 0.3, save_top_k=2)
    names = ["best-epoch0-step3.ckpt", "best-epoch1-step6.ckpt"]
    assert files(tmp_path) == [*names, "best.ckpt", "last.ckpt"]
    assert callback.best_model_path == str(tmp_path / names[0])
    assert step_of(tmp_path / "best.ckpt") == 3


def test_best_checkpoint_keeps_all_by_names_of_the_user(fit, tmp_path):
    options = {"filename": "epoch{epoch}-{val/acc1:.2f}", "auto_insert_metric_name": False}
    fit(0.1, 0.5, 0.3, save_top_k=-1, **options)
    epochs = [f"epoch{epoch}-{score:.2f}.ckpt" for epoch, score in enumerate((0.1, 0.5, 0.3))]
    assert files(tmp_path) == ["best.ckpt", *epochs, "last.ckpt"]
    assert step_of(tmp_path / "best.ckpt") == step_of(tmp_path / epochs[1]) == 6


def test_best_checkpoint_of_every_second_epoch_is_named_as_lightning_names_it(fit, tmp_path):
    fit(0.4, 0.2, 0.5, filename="{epoch}-{step}", every_n_epochs=2)
    assert files(tmp_path) == ["best.ckpt", "epoch=1-step=6.ckpt", "last.ckpt"]


def test_best_checkpoint_tells_validations_of_one_epoch_apart(fit, tmp_path):
    options = {"max_epochs": 1, "val_check_interval": 1}
    fit(0.1, 0.5, 0.3, save_top_k=-1, filename="{epoch}", trainer_options=options)
    assert [step_of(path) for path in sorted(tmp_path.glob("epoch*"))] == [2, 3, 1]
    assert step_of(tmp_path / "best.ckpt") == 2


def test_best_checkpoint_by_loss_is_the_lowest(fit):
    _, callback = fit(0.1, 0.5, monitor="val/loss", mode="min")
    assert callback.best_validation == Validation(1.0, 1, 6)


def test_best_checkpoint_is_not_one_without_a_score(fit, tmp_path):
    _, callback = fit(0.2, float("nan"))
    assert callback.best_validation.step == step_of(tmp_path / "best.ckpt") == 3


def test_best_checkpoint_is_none_where_nothing_was_validated(fit, tmp_path):
    fit(0.5)
    elsewhere = tmp_path / "other"
    trainer, callback = fit(
        ckpt_path=tmp_path / "last.ckpt",
        folder=elsewhere,
        trainer_options={"max_epochs": 2, "limit_val_batches": 0},
    )
    assert callback.best_model_path == ""
    assert find_best(trainer) == (None, "last weights, step 6", 2, 6)
    assert files(elsewhere) == ["last.ckpt"]


def test_best_checkpoint_of_an_interrupted_run_is_found_again(fit, tmp_path):
    fit(0.5, 0.2)
    three = {"max_epochs": 3}
    _, callback = fit(0.4, ckpt_path=tmp_path / "last.ckpt", trainer_options=three)
    assert callback.best_validation.step == step_of(tmp_path / "best.ckpt") == 3


def test_best_checkpoint_that_is_newer_than_the_state_keeps_its_score(fit, tmp_path):
    fit(0.2)
    state = (tmp_path / "last.ckpt").read_bytes()
    fit(0.2, 0.7)
    (tmp_path / "last.ckpt").write_bytes(state)  # stopped before epoch 1 was kept
    two = {"max_epochs": 2}
    _, callback = fit(0.6, ckpt_path=tmp_path / "last.ckpt", trainer_options=two)
    assert callback.kept == {"best.ckpt": Validation(pytest.approx(0.7), 1, 6)}


def test_best_checkpoint_takes_over_what_lightnings_callback_has_kept(fit, tmp_path):
    fit(0.5, 0.2)
    for name in ("best", "last"):  # as ModelCheckpoint has written them
        checkpoint = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        kept = {"/moved/since/best.ckpt": torch.tensor(0.5)}
        state = {"monitor": "val/acc1", "mode": "max", "best_k_models": kept}
        checkpoint["callbacks"] = {"ModelCheckpoint{'monitor': 'val/acc1'}": state}
        torch.save(checkpoint, tmp_path / f"{name}.ckpt")
    three = {"max_epochs": 3}
    _, callback = fit(0.4, ckpt_path=tmp_path / "last.ckpt", trainer_options=three)
    assert callback.kept == {"best.ckpt": Validation(0.5, 0, 3)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "train/loss", "mode": "min"}, "wanted a metric of the validation"),
        ({"monitor": "val/acc2"}, "choose one of val/acc1, val/loss"),
        ({"mode": "best"}, "wanted max or min"),
        ({"filename": "{val/acc9}"}, "cannot be filled in"),
    ],
)
def test_best_checkpoint_refuses(fit, refusal, options, message):
    assert message in refusal(lambda: fit(0.5, **options))
