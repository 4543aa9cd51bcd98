"""Baselines from timm: made to fit the data, with weights of ours, and refused in one line."""

import pytest
import timm
import torch

from mambavision_lab.errors import ConfigError
from mambavision_lab.models.saved import build_saved
from mambavision_lab.models.timm_classifier import timm_classifier


@pytest.mark.parametrize(
    ("name", "image_size", "in_chans", "patch_size"),
    [
        ("vit_small_patch16_224", 224, 3, 16),
        ("vit_small_patch16_224", 32, 3, 4),
        ("vit_small_patch16_224", 28, 1, 4),
        ("vit_small_patch16_224", 64, 3, 8),
    ],
)
def test_vit_gets_a_patch_that_fits_the_image(name, image_size, in_chans, patch_size):
    net = timm_classifier(name=name, num_classes=7, in_chans=in_chans, image_size=image_size)
    assert net.patch_embed.proj.weight.shape[1:] == (in_chans, patch_size, patch_size)
    assert net.head.weight.shape == (7, 384)


def test_given_patch_is_taken():
    net = timm_classifier(name="vit_tiny_patch16_224", image_size=32, patch_size=8)
    assert net.patch_embed.proj.stride == (8, 8)


@pytest.mark.parametrize(("image_size", "side"), [(28, 4), (32, 4), (64, 2), (224, 7)])
def test_resnet_keeps_the_resolution_of_small_images(image_size, side):
    net = timm_classifier(name="resnet18", num_classes=7, image_size=image_size)
    assert net.forward_features(torch.zeros(1, 3, image_size, image_size)).shape[2:] == (side, side)


def test_rates_reach_the_network():
    net = timm_classifier(
        name="vit_tiny_patch16_224", image_size=32, drop_rate=0.3, drop_path_rate=0.2
    )
    assert net.head_drop.p == 0.3
    assert net.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)


def test_arguments_reach_the_constructor():
    sizes = {"dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}  # lists, as in a config
    net = timm_classifier(name="mambaout_femto", image_size=32, model_args=sizes)
    assert [stage.blocks[0].norm.weight.numel() for stage in net.stages] == sizes["dims"]
    with pytest.raises(ConfigError, match=r"name=resnet18: cannot be made .*'dims'"):
        timm_classifier(name="resnet18", image_size=32, model_args=sizes)


@pytest.mark.parametrize(
    ("wrapper", "prefix"), [("state_dict", "net."), ("model_state_dict", "module.backbone.")]
)
def test_weights_from_a_file_start_the_network(wrapper, prefix, tmp_path, caplog):
    first = timm_classifier(name="resnet18", num_classes=7, image_size=32)
    state = {prefix + key: x for key, x in first.state_dict().items()}
    content = {wrapper: state, "folder": tmp_path, "optimizer": {"state": {0: torch.ones(2)}}}
    torch.save(content, tmp_path / "first.ckpt")
    options = {"name": "resnet18", "image_size": 32, "pretrained": str(tmp_path / "first.ckpt")}
    same, other = (timm_classifier(num_classes=n, **options) for n in (7, 4))
    assert same.fc.weight.equal(first.fc.weight)
    assert other.fc.weight.shape == (4, 512)
    (message,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert message.endswith("it has 7 classes, this network 4; the head starts afresh")
    assert other.layer4[1].conv2.weight.equal(first.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet81"}, "timm has no such model; did you mean 'resnet18'"),
        ({"name": "qqqq"}, "timm has no such model; see timm.list_models()"),
        ({"name": "convnext_atto", "image_size": 8}, "cannot take images of 8 x 8 pixels"),
        ({"name": "resnet18", "patch_size": 4}, "cannot be made"),
        ({"name": "resnet18", "pretrained": "gone.pth"}, "gone.pth"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_timm_cannot_make_is_refused_in_one_line(options, message, refusal):
    assert message in refusal(lambda: timm_classifier(**options))


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"num_classes": 0, "global_pool": ""}])
def test_network_that_gives_no_logits_is_refused_in_one_line(options, monkeypatch, refusal):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **options))
    message = refusal(lambda: timm_classifier(name="resnet18", num_classes=7))
    assert "name=resnet18: is no classifier: for one image it gives (1, 512" in message
    assert message.endswith("instead of logits (1, 7); choose another model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"stem.weight": torch.zeros(3)}, "these are no weights of resnet18"),
        (b"no weights at all", "is no checkpoint, is damaged"),
    ],
    ids=["other", "broken"],
)
def test_weights_of_another_model_are_refused_in_one_line(content, message, tmp_path, refusal):
    source = tmp_path / "weights.pth"
    source.write_bytes(content) if isinstance(content, bytes) else torch.save(content, source)
    assert message in refusal(lambda: timm_classifier(name="resnet18", pretrained=str(source)))


def test_our_own_networks_are_known_too():
    net = timm_classifier(name="mambavision_nano", num_classes=7, in_chans=1, image_size=28)
    assert net.pos_embed.shape[2:] == (7, 7)
    assert net(torch.zeros(1, 1, 28, 28)).shape == (1, 7)


def test_saved_network_of_timm_is_built_again():
    options = {"name": "resnet10t", "num_classes": 2, "image_size": 32}
    net = timm_classifier(**options)
    target = "mambavision_lab.models.timm_classifier.timm_classifier"
    description = {"architecture": {"_target_": target, **options}}
    again = build_saved(description, net.state_dict(), "best.ckpt", scan_backend="torch")
    torch.testing.assert_close(again.state_dict(), net.state_dict())
