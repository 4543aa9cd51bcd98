import functools
import itertools
from types import SimpleNamespace

import pytest
import timm
import torch
from hydra.utils import instantiate
from toys import HIERARCHICAL_TOY

from mambavision_lab.lit.callbacks.freeze import Freeze
from mambavision_lab.lit.training_module import param_groups
from mambavision_lab.models.freezing import first_parameters
from mambavision_lab.models.hierarchical import MambaVision


def make_hierarchical():
    return MambaVision(**HIERARCHICAL_TOY)


def run(classifier, loader, trainer):
    """Fit, and return the names of the parameters and buffers that have changed."""
    before = {key: x.clone() for key, x in classifier.net.state_dict().items()}
    trainer.fit(classifier, loader)
    return {key for key, x in classifier.net.state_dict().items() if not x.equal(before[key])}


def test_first_epochs_train_the_head_alone(make_classifier, make_loader, make_trainer):
    loader = make_loader(shape=(3, 64, 64))
    classifier = make_classifier(make_hierarchical())
    changed = run(classifier, loader, make_trainer(max_epochs=1, callbacks=[Freeze()]))
    assert changed == {"head.weight", "head.bias"}
    assert all(p.requires_grad for p in classifier.net.parameters())
    changed = run(classifier, loader, make_trainer(max_epochs=2, callbacks=[Freeze()]))
    assert changed > {"head.weight", "patch_embed.conv_down.0.weight", "norm.running_mean"}


def test_stem_and_stages_can_be_frozen_for_the_whole_run(
    make_classifier, make_loader, make_trainer
):
    freeze = Freeze(epochs=None, num_stages=2)
    classifier = make_classifier(make_hierarchical())
    loader = make_loader(shape=(3, 64, 64))
    changed = run(classifier, loader, make_trainer(max_epochs=2, callbacks=[freeze]))
    assert not [key for key in changed if key.startswith(("patch_embed", "levels.0", "levels.1"))]
    assert {key.partition(".")[0] for key in changed} >= {"levels", "norm", "head"}


def test_resumed_run_knows_by_the_epoch_what_is_frozen(
    make_classifier, make_loader, make_trainer, tmp_path
):
    def fit(epochs, ckpt_path=None):
        torch.manual_seed(0)
        classifier = make_classifier()
        trainer = make_trainer(max_epochs=epochs, callbacks=[Freeze(epochs=2)])
        trainer.fit(classifier, make_loader(), ckpt_path=ckpt_path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return classifier.net.state_dict()

    uninterrupted = fit(3)
    fit(1)
    resumed = fit(3, ckpt_path=tmp_path / "last.ckpt")
    for key, x in uninterrupted.items():
        torch.testing.assert_close(resumed[key], x, msg=key)


def test_plain_family_counts_its_blocks_as_stages(make_net):
    net = make_net()
    stem = set(first_parameters(net, 0))
    assert {"pos_embed", "stem.0.weight"} <= stem
    assert not any(name.startswith("blocks") for name in stem)
    assert set(first_parameters(net, 1)) - stem == {
        name for name, _ in net.named_parameters() if name.startswith("blocks.0.")
    }


@pytest.mark.parametrize(
    ("make", "num_stages", "message"),
    [
        (make_hierarchical, 5, "num_stages=5: MambaVision has 0 to 4"),
        (make_hierarchical, -1, "num_stages=-1: MambaVision has 0 to 4"),
        (lambda: torch.nn.Linear(2, 2), None, "Linear does not say which part is its head"),
        (lambda: torch.nn.Linear(2, 2), 1, "Linear does not say what its stages are"),
    ],
)
def test_networks_without_such_parts_are_refused(make, num_stages, message, refusal):
    with pytest.raises(ValueError, match=message):
        first_parameters(make(), num_stages)
    module = SimpleNamespace(net=make())
    freeze = Freeze(num_stages=num_stages)
    line = refusal(lambda: freeze.on_train_epoch_start(SimpleNamespace(current_epoch=0), module))
    assert line.startswith(f"callbacks.freeze.num_stages={num_stages}: ")
    assert message in line


@pytest.mark.parametrize("num_stages", [None, 0, 2, 4])
def test_callback_freezes_what_the_network_itself_does(num_stages):
    net, module = make_hierarchical(), SimpleNamespace(net=make_hierarchical())
    net.freeze(num_stages)
    freeze = Freeze(num_stages=num_stages)
    freeze.on_train_epoch_start(SimpleNamespace(current_epoch=0, world_size=1), module)
    states = [
        [(n, p.requires_grad) for n, p in net.named_parameters()]
        + [(n, m.training) for n, m in net.named_modules()]
        for net in (net, module.net)
    ]
    assert states[0] == states[1]
    assert net.head.training


def test_stages_of_timms_networks_are_known():
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3)
    assert {name.split(".")[0] for name in first_parameters(net, 0)} == {
        *("cls_token", "pos_embed", "patch_embed")
    }
    names = set(first_parameters(net, 3))
    assert {n for n, _ in net.named_parameters()} - names == {
        *("norm.weight", "norm.bias", "head.weight", "head.bias")
    }


# Layer-wise learning rates.


@pytest.mark.parametrize("family", ["plain", "hierarchical"])
def test_each_layer_learns_at_its_share_of_the_next_ones_rate(family, make_net, make_classifier):
    net = make_net() if family == "plain" else make_hierarchical()
    adamw = functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05)
    optimizer = make_classifier(net, optimizer=adamw, layer_decay=0.5).configure_optimizers()
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate[id(p)] for name, p in net.named_parameters()}
    first = "stem.0.weight" if family == "plain" else "patch_embed.conv_down.0.weight"
    assert rates["head.weight"] == 1e-3
    assert rates[first] == min(rates.values()) < max(rates.values()) == 1e-3
    ordered = sorted(set(rates.values()))
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(ordered))
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.0, 0.05}


def test_layer_groups_hold_every_parameter_once(make_net):
    net = make_net()
    groups = param_groups(net, 0.05, 0.75)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())


@pytest.mark.parametrize("layer_decay", [0, -0.5, 1.5])
def test_layer_decay_outside_its_range_is_refused(layer_decay, make_classifier):
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        make_classifier(layer_decay=layer_decay)


def test_freeze_config_makes_the_callback():
    node = {"_target_": "mambavision_lab.lit.callbacks.freeze.Freeze", "epochs": 2}
    assert instantiate(node).epochs == 2
