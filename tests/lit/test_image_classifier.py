import functools

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tolerances import assert_close
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.files import configs_folder
from mambavision_lab.lit.losses import CrossEntropy
from mambavision_lab.lit.training_module import param_groups


def names_of(group, net):
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {names[id(parameter)] for parameter in group["params"]}


def all_of(loader):
    return (torch.cat(part) for part in zip(*loader, strict=True))


class Readout(nn.Sequential):
    """A linear classifier of small images: cheap, and its accuracy is neither 0 nor 1."""

    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(8, num_classes))


# Optimizer and schedule.


def test_weight_decay_applies_to_the_weights_of_layers_alone(make_net):
    net = make_net()
    no_decay, decayed = param_groups(net, 0.05)
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
    weights = {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, layers)}
    assert names_of(decayed, net) == weights
    assert names_of(no_decay, net) == dict(net.named_parameters()).keys() - weights
    assert {"pos_embed", "blocks.0.mixer.A_log", "blocks.0.mixer.D"} <= names_of(no_decay, net)
    assert (no_decay["weight_decay"], decayed["weight_decay"]) == (0.0, 0.05)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"weight_decay": 0.3}, {0.0, 0.3}), ({"weight_decay": 0.0}, {0.0}), ({}, {0.0})],
)
def test_optimizer_decays_by_its_keyword(given, expected, make_classifier):
    make = functools.partial(torch.optim.AdamW, lr=1e-3, **given)
    groups = make_classifier(optimizer=make).configure_optimizers().param_groups
    assert {group["weight_decay"] for group in groups} == expected


def test_networks_without_a_list_of_their_own_decay_too(make_classifier):
    net = Readout(3)
    no_decay, decayed = param_groups(net, 0.1)
    assert (names_of(no_decay, net), names_of(decayed, net)) == ({"1.bias"}, {"1.weight"})


@pytest.fixture(
    params=sorted((configs_folder() / "optimizer").glob("*.yaml")), ids=lambda p: p.stem
)
def optimizer(request):
    """Each optimizer of the configs, as the partial that Hydra makes of it."""
    return instantiate(OmegaConf.load(request.param), _convert_="all")


def test_configured_optimizer_changes_every_weight(optimizer, make_classifier):
    classifier = make_classifier(optimizer=optimizer)
    before = {}
    for name, parameter in classifier.net.named_parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)  # so that no gradient is tiny
        before[name] = parameter.detach().clone()
    step = classifier.configure_optimizers()
    images = torch.randn(8, 2, 16, 16)
    loss = F.cross_entropy(classifier(images), torch.arange(8) % 3)
    loss.backward()
    step.step()
    for name, parameter in classifier.net.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.isfinite().all(), name
    assert [group["lr"] for group in step.param_groups] == [optimizer.keywords["lr"]] * 2


def test_configured_optimizer_fits_in_mixed_precision_with_clipping(
    optimizer, make_classifier, make_loader, make_trainer
):
    classifier = make_classifier(optimizer=optimizer)
    before = classifier.net.head.weight.clone()
    trainer = make_trainer(max_epochs=1, precision="bf16-mixed", gradient_clip_val=1.0)
    trainer.fit(classifier, make_loader())
    assert not torch.equal(classifier.net.head.weight, before)


# Metrics.


@pytest.mark.parametrize("num_classes", [5, 6])
def test_top5_is_reported_beyond_five_classes_only(
    num_classes, make_classifier, make_loader, make_trainer
):
    classifier = make_classifier(Readout(num_classes), num_classes=num_classes)
    loader = make_loader(num_classes=num_classes, shape=(2, 2, 2))
    (metrics,) = make_trainer().validate(classifier, loader, verbose=False)
    top5 = {"val/acc5"} if num_classes > 5 else set()
    assert metrics.keys() == {"val/loss", "val/num_images", "val/acc1"} | top5


@pytest.mark.parametrize("phase", ["val", "test"])
def test_metrics_over_uneven_batches_are_those_of_the_whole(
    phase, make_classifier, make_loader, make_trainer
):
    classifier = make_classifier(Readout(7), num_classes=7, loss=CrossEntropy(smoothing=0.3))
    loader = make_loader(num_images=30, batch_size=8, num_classes=7, shape=(2, 2, 2))
    evaluate = {"val": make_trainer().validate, "test": make_trainer().test}[phase]
    (metrics,) = evaluate(classifier, loader, verbose=False)
    images, labels = all_of(loader)
    logits = classifier(images)
    best = logits.topk(5).indices == labels[:, None]
    expected = {
        f"{phase}/loss": F.cross_entropy(logits, labels).item(),
        f"{phase}/num_images": 30,
        f"{phase}/acc1": best[:, 0].float().mean().item(),
        f"{phase}/acc5": best.any(1).float().mean().item(),
    }
    assert 0 < expected[f"{phase}/acc1"] < expected[f"{phase}/acc5"] < 1
    assert metrics == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_acts_in_training_only(make_classifier, make_loader, make_trainer):
    constant = functools.partial(torch.optim.SGD, lr=0.0)
    classifier = make_classifier(Readout(3), optimizer=constant, loss=CrossEntropy(smoothing=0.4))
    loader = make_loader(shape=(2, 2, 2))
    trainer = make_trainer(max_epochs=2)
    trainer.fit(classifier, loader, loader)
    images, labels = all_of(loader)
    logits = classifier(images)
    smoothed = F.cross_entropy(logits, labels, label_smoothing=0.4)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    accuracy = (logits.argmax(1) == labels).float().mean()
    expected = {
        "train/loss": smoothed.item(),
        "train/acc1": accuracy.item(),
        "val/loss": F.cross_entropy(logits, labels).item(),
        "val/acc1": accuracy.item(),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert abs(expected["train/loss"] - expected["val/loss"]) > 1e-3


def test_mixed_images_train_their_shares_and_have_no_accuracy(make_classifier, make_trainer):
    images, shares = torch.randn(4, 2, 2, 2), torch.rand(4, 3).softmax(1)
    classifier = make_classifier(Readout(3), optimizer=functools.partial(torch.optim.SGD, lr=0.0))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(classifier, DataLoader(TensorDataset(images, shares), batch_size=4))
    expected = F.cross_entropy(classifier(images), shares).item()
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert metrics["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert "train/acc1" not in metrics


def test_loss_receives_logits_targets_and_images(make_classifier, make_loader, make_trainer):
    class Seen(nn.Module):
        def forward(self, logits, targets, images):
            self.shapes = logits.shape, targets.shape, images.shape
            return logits.square().mean()

    classifier = make_classifier(Readout(3), loss=Seen())
    make_trainer(max_steps=1).fit(classifier, make_loader(shape=(2, 2, 2)))
    assert classifier.loss.shapes == ((4, 3), (4,), (4, 2, 2, 2))


# Memory, compilation, checkpoints.


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_and_convolutions_share_a_memory_format(channels_last, make_net, make_classifier):
    classifier = make_classifier(make_net(), channels_last=channels_last)
    seen = []
    classifier.net.register_forward_pre_hook(lambda net, args: seen.append(args[0]))
    images = torch.randn(2, 2, 16, 16)
    y = classifier(images)
    kind = torch.channels_last if channels_last else torch.contiguous_format
    assert seen[0].is_contiguous(memory_format=kind)
    assert torch.equal(seen[0], images)
    assert classifier.net.stem[3].weight.is_contiguous(memory_format=kind)
    assert_close(y, classifier.net(images), torch.float32)


def test_compiling_happens_once_and_keeps_state_dict_keys(make_net, make_classifier, monkeypatch):
    compiled = []

    def compile_by_name_only(call, **options):
        compiled.append(call)
        return lambda *args: 2 * call(*args)

    monkeypatch.setattr(torch, "compile", compile_by_name_only)
    net, images = make_net().eval(), torch.randn(2, 2, 16, 16)
    expected, keys = net(images), list(net.state_dict())
    classifier = make_classifier(net, use_compile=True)
    classifier.setup("fit")
    classifier.setup("test")
    assert len(compiled) == 1
    assert_close(classifier(images), 2 * expected, torch.float32)
    assert [key for key in classifier.state_dict() if key.startswith("net.")] == [
        f"net.{key}" for key in keys
    ]
    make_classifier(make_net()).setup("fit")
    assert len(compiled) == 1


def test_checkpoint_holds_metadata_as_plain_values(
    make_net, make_classifier, make_loader, make_trainer, tmp_path
):
    metadata = {"name": "toy", "model": {"depth": 2, "mamba_ratio": 0.5}, "data": {"mean": [0.5]}}
    classifier = make_classifier(metadata=metadata)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(classifier, make_loader())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    stored = {**metadata, "channels_last": True}
    assert checkpoint["hyper_parameters"] == stored
    # Into a classifier for images of another size: only the position embedding changes.
    other = make_classifier(make_net(image_size=32))
    other.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(other.net.head.weight, classifier.net.head.weight)
    assert other.net.pos_embed.shape == (1, 8, 8, 8)


def test_nano_overfits_one_batch(make_classifier, make_loader, make_trainer):
    config = OmegaConf.load(configs_folder() / "model" / "mambavision_nano.yaml")
    config.update({"num_classes": 10, "in_chans": 1, "image_size": 28, "scan_backend": "auto"})
    adamw = functools.partial(torch.optim.AdamW, lr=2e-3)
    classifier = make_classifier(instantiate(config), num_classes=10, optimizer=adamw)
    loader = make_loader(num_images=16, batch_size=16, num_classes=10, shape=(1, 28, 28))
    trainer = make_trainer(max_epochs=40)
    trainer.fit(classifier, loader)
    assert trainer.callback_metrics["train/loss"] < 0.02
    assert trainer.callback_metrics["train/acc1"] == 1


@pytest.mark.parametrize(("scale_lr", "factor"), [(None, 1), ("sqrt", 2), ("linear", 4)])
def test_learning_rate_grows_with_the_images_of_a_step(
    make_classifier, make_loader, make_trainer, scale_lr, factor
):
    classifier = make_classifier(
        optimizer=functools.partial(torch.optim.SGD, lr=0.01), scale_lr=scale_lr
    )
    trainer = make_trainer(max_steps=1, accumulate_grad_batches=4)
    trainer.fit(classifier, make_loader())
    assert {group["lr"] for group in trainer.optimizers[0].param_groups} == {0.01 * factor}


@pytest.mark.parametrize(("scale_lr", "factor"), [("sqrt", 0.5), ("linear", 0.25)])
def test_learning_rate_is_that_of_the_batch_that_it_is_meant_for(
    make_classifier, make_trainer, scale_lr, factor
):
    classifier = make_classifier(scale_lr=scale_lr, lr_batch_size=4096, batch_size=128)
    assert classifier.lr_factor(make_trainer(accumulate_grad_batches=8)) == factor
    assert classifier.lr_factor(make_trainer(accumulate_grad_batches=32)) == 1


def test_unknown_scale_of_the_learning_rate_is_refused(make_classifier):
    with pytest.raises(ValueError, match="scale_lr=cubic is unknown; choose linear, sqrt or null"):
        make_classifier(scale_lr="cubic")


@pytest.mark.parametrize(("num_classes", "pool"), [(0, ""), (0, "avg"), (4, "avg")])
def test_network_that_gives_no_logits_of_the_classes_is_refused(
    num_classes, pool, make_net, make_classifier, refusal
):
    net = make_net()
    net.reset_classifier(num_classes, pool)
    classifier = make_classifier(net, num_classes=3)
    message = refusal(lambda: classifier(torch.zeros(5, 2, 16, 16)))
    assert "net: PlainMambaVision gives (5, " in message
    assert "instead of logits (5, 3); give it a head for the 3 classes" in message
