"""int8 keeps the metric, leaves sensitive layers alone, and fails when the floor cannot be met."""

import pytest
import torch

from mambavision_lab.compress import int8
from mambavision_lab.exporters.onnx import METHODS
from mambavision_lab.exporters.runtimes.load import load_exported

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture
def graph(tmp_path):
    """Three linear layers with a name each; the first reads little of a channel that is large."""
    helper, rng = onnx.helper, torch.Generator().manual_seed(0)
    weights = [torch.randn(16, 16, generator=rng) / 4 for _ in range(3)]
    weights[0][3] /= 1000
    names = ["images", "first", "second", "logits"]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"layer{i}")
        for i in range(3)
    ]
    stored = [onnx.numpy_helper.from_array(w.numpy(), f"w{i}") for i, w in enumerate(weights)]
    shaped = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 16])
        for name in ("images", "logits")
    )
    made = helper.make_graph(nodes, "g", [next(shaped)], [next(shaped)], stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("method", METHODS)
def test_layers_stay_in_float32_until_the_metric_is_kept(method, graph, tmp_path):
    images = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    images[:, 3] *= 1000
    expected, tries = load_exported(graph)(images), []

    def measure(net):  # as a share: 1 for equal logits
        return 1 - float((net(images) - expected).norm() / expected.norm())

    target = tmp_path / "int8.onnx"
    options = {"measure": measure, "baseline": 1.0, "reduce_range": True, "report": tries.append}
    found = int8.quantize(graph, target, images, method, max_drop=1.0, **options)
    assert (found.left, found.num_layers, len(tries)) == ((), 3, 1)  # none was ranked
    found = int8.quantize(graph, target, images, method, max_drop=0.05, **options)
    assert found.left == ("layer0",)
    assert found.drop <= 0.05
    assert not onnx.load(target).metadata_props  # none but ours
    assert 1 - measure(load_exported(target)) == pytest.approx(found.drop)
    assert "1 of 3 layers in float32" in tries[-1]
    with pytest.raises(
        int8.AccuracyFloorError,
        match=r"max_drop=1e-06: int8 loses 0\.\d+ at least, 0\.\d+ too much, with up to 2 of 3 layers",
    ):
        int8.quantize(graph, target, images, method, max_drop=1e-6, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"}


def test_fewest_layers_are_found_between_doublings():
    for least, num_layers in ((1, 9), (3, 9), (5, 9), (8, 9), (1, 2)):
        tried = []
        found = int8._fewest(lambda n: tried.append(n) or n >= least, num_layers)  # noqa: B023
        assert found == least
        assert len(tried) == len({*tried}) <= 6
    assert int8._fewest(lambda n: False, 9) is None
    assert int8._fewest(lambda n: False, 1) is None


def test_processors_without_vnni_are_known(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(int8, "Path", lambda path: cpuinfo)
    assert int8.has_vnni() is None
    cpuinfo.write_text("flags : sse4_2 avx2 avx512f")
    assert int8.has_vnni() is False
    cpuinfo.write_text("flags : sse4_2 avx2 avx512_vnni")
    assert int8.has_vnni() is True
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert int8.has_vnni() is None
