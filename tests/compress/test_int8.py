"""int8 keeps the metric, leaves sensitive layers alone, and fails when the floor cannot be met."""

import pytest
import torch

from mambavision_lab.compress import int8

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


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


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@pytest.mark.parametrize("method", int8.METHODS)
def test_layers_stay_in_float32_until_the_metric_is_kept(method, graph, tmp_path):
    images = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    images[:, 3] *= 1000
    expected, tries = run(graph, images), []

    def measure(path):  # as a share: 1 for equal logits
        return 1 - float((run(path, images) - expected).norm() / expected.norm())

    target = tmp_path / "int8.onnx"
    options = {"measure": measure, "baseline": 1.0, "reduce_range": False, "report": tries.append}
    found = int8.quantize(graph, target, images, method, max_drop=1.0, **options)
    assert (found.left, found.num_layers) == ((), 3)
    found = int8.quantize(graph, target, images, method, max_drop=0.05, **options)
    assert found.left == ("layer0",)
    assert found.drop <= 0.05
    assert 1 - measure(target) <= 0.05
    assert "1 of 3 layers in float32" in tries[-1]
    with pytest.raises(
        int8.AccuracyFloorError, match=r"max_drop=1e-06: int8 loses 0\.\d+ at least"
    ):
        int8.quantize(graph, target, images, method, max_drop=1e-6, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"}


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
