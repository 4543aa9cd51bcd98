"""Class activation maps, attribution and figures of a network, for our families and timm's."""

import sys

import pytest
import torch
from toys import HIERARCHICAL_TOY

from mambavision_lab.explainers.base import to_image
from mambavision_lab.explainers.features_of_layers import similarity, singular_values
from mambavision_lab.explainers.methods import default_method, explain
from mambavision_lab.explainers.receptive_field import receptive_field
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.timm_classifier import timm_classifier


def nets(make_net):
    return {
        "blocks.1": (make_net(), (2, 16, 24)),
        "levels.3": (MambaVision(**HIERARCHICAL_TOY), (3, 40, 48)),
        "layer4": (timm_classifier(name="resnet10t", num_classes=3, image_size=64), (3, 64, 64)),
    }


def test_gradcam_is_its_formula_at_the_last_map_of_each_family(make_net):
    pytest.importorskip("torchcam")
    for name, (net, shape) in nets(make_net).items():
        image = torch.randn(1, *shape)
        found = explain(net.eval(), image, "gradcam", target=1)
        assert found.source == f"GradCAM at {name}"
        kept = []
        hook = net.get_submodule(name).register_forward_hook(
            lambda m, i, y, kept=kept: kept.append(y)
        )
        score = net(image)[0, 1]
        hook.remove()
        (grad,) = torch.autograd.grad(score, kept)
        features, grad = kept[0][0], grad[0]
        if features.ndim == 2:  # tokens
            features, grad = (x.T.unflatten(1, (4, 6)) for x in (features, grad))
        cam = (grad.mean(dim=(1, 2), keepdim=True) * features).sum(dim=0).relu().detach()
        torch.testing.assert_close(found.map, to_image(cam, image), atol=1e-6, rtol=1e-4)
        assert all(p.grad is None for p in net.parameters())


def test_attribution_of_a_linear_network_is_its_products():
    pytest.importorskip("captum")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(18, 3)).eval()
    image = torch.randn(1, 2, 3, 3)
    weights = net[1].weight[2].view(2, 3, 3).detach()
    expected = (weights * image[0]).sum(dim=0).abs()
    for method in ("input_x_gradient", "integrated_gradients"):
        torch.testing.assert_close(explain(net, image, method, target=2).map, expected)
    smooth = explain(net, image, "smoothgrad", target=2).map
    torch.testing.assert_close(smooth, weights.abs().sum(dim=0))


def test_missing_package_is_named_with_its_extra(make_net, refusal, monkeypatch):
    image = torch.randn(1, 2, 16, 16)
    for module, method in (("torchcam.methods", "layercam"), ("captum.attr", "smoothgrad")):
        monkeypatch.setitem(sys.modules, module, None)
        message = refusal(lambda method=method: explain(make_net().eval(), image, method))
        assert "mambavision-lab[explain]" in message


def test_default_method_fits_the_network(make_net):
    assert default_method(make_net()) == "grad_rollout"
    for net, shape in nets(make_net).values():
        assert (
            explain(net.eval(), torch.randn(1, *shape), default_method(net)).map.shape == shape[1:]
        )


def test_eigencam_follows_the_first_principal_direction(make_net):
    found = explain(make_net().eval(), torch.randn(1, 2, 16, 16), "eigencam")
    assert [*found.layers] == ["blocks.0", "blocks.1"]
    assert found.map.max() > 0


def test_similarity_of_layers_ignores_rotation_and_scale():
    x = torch.randn(40, 6, 2, 2, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    turned = 3 * torch.einsum("nchw,cd->ndhw", x, rotation)
    other = torch.randn(40, 6, 2, 2, dtype=torch.float64)
    found = similarity({"x": x, "turned": turned, "other": other})
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] < 0.5
    values = singular_values(x)
    places = x.transpose(0, 1).flatten(1).T
    expected = torch.linalg.svdvals(places - places.mean(dim=0))
    torch.testing.assert_close(values, expected / expected[0])


def test_receptive_field_of_convolutions_is_their_kernels(make_net):
    net = timm_classifier(name="resnet10t", num_classes=3, image_size=64).eval()
    field = receptive_field(net, torch.randn(2, 3, 64, 64))
    assert field.shape == (64, 64)
    assert field[32, 32] > 0
