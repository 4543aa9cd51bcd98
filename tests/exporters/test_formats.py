"""Every format, read back in its own runtime, computes what the network does."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from export_cases import (
    DESCRIPTION,
    TOLERANCES,
    make_format,
    make_hierarchical,
    make_plain,
)

from mambavision_lab.data.decode import WHITE
from mambavision_lab.data.image_files import CROP_FRACTION
from mambavision_lab.exporters import verify
from mambavision_lab.exporters.base import takes_any_size, with_scan
from mambavision_lab.exporters.executorch import ExecutorchFormat
from mambavision_lab.exporters.onnx import OnnxFormat
from mambavision_lab.exporters.openvino import OpenvinoFormat
from mambavision_lab.exporters.ort import OrtFormat
from mambavision_lab.exporters.plain_scan import unrolled_scan
from mambavision_lab.exporters.runtimes.load import load_exported
from mambavision_lab.exporters.torchscript import TorchscriptFormat
from mambavision_lab.exporters.web import WebFormat
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.ops.selective_scan import selective_scan

slow = pytest.mark.slow


def check(name, net, size, folder, **options):
    """Export a network and compare it; returns the file's runtime and the spec."""
    export_format = make_format(name, **options)
    spec = export_format.make_spec(net, 3, size, DESCRIPTION)
    export_format.write(spec, folder)
    run = export_format.load(folder)
    assert {path.name for path in folder.iterdir()} == set(export_format.files)
    rows = verify.compare(run, spec, torch.rand(2, 3, size, size), TOLERANCES[name])
    verify.require_parity(rows, TOLERANCES[name])
    assert {row.images for row in rows} == {"random", "real"}
    assert {row.batch for row in rows} == {1, 3, 8}
    assert min(row.largest_logit for row in rows) > 1e-2  # something was compared
    return run, spec


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("onnx", {"scan": "op"}),
        ("openvino", {"scan": "op"}),
        ("torch_export", {"scan": "op"}),
        ("torch_export", {"scan": "unrolled"}),
        ("torchscript", {}),
        pytest.param("onnx", {"scan": "unrolled"}, marks=slow),
        pytest.param("openvino", {"scan": "unrolled"}, marks=slow),
    ],
)
def test_exported_plain_network_computes_what_it_did(name, options, tmp_path):
    check(name, make_plain(), 16, tmp_path, **options)
    if name == "openvino":
        import openvino

        model = openvino.Core().read_model(tmp_path / "model.xml")
        names = json.loads(model.get_rt_info(["mambavision_lab", "class_names"]).astype(str))
        assert names == DESCRIPTION["class_names"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("onnx", {"scan": "op"}),
        ("torchscript", {}),
        pytest.param("onnx", {"scan": "unrolled"}, marks=slow),
        pytest.param("torch_export", {"scan": "op"}, marks=slow),
        pytest.param("openvino", {"scan": "op"}, marks=slow),
        pytest.param("openvino", {"scan": "unrolled"}, marks=slow),
        pytest.param("torch_export", {"scan": "unrolled"}, marks=slow),
    ],
)
def test_exported_hierarchical_network_takes_any_size(name, options, tmp_path):
    run, spec = check(name, make_hierarchical(), 64, tmp_path, **options)
    assert spec.any_size
    # 64 x 64 fills whole windows, the others do not; 33 x 200 and 20 x 20 are no multiple of anything.
    assert verify.sizes(spec) == [(64, 64), (96, 96), (320, 480)]
    with torch.inference_mode():
        for height, width in ((33, 200), (20, 20)):
            images = torch.randn(2, 3, height, width)
            assert (run(images) - spec.net(images)).abs().max() < 1e-5


def test_export_at_another_size_has_the_position_embedding_of_that_size(tmp_path):
    net = make_plain()
    run, spec = check("torchscript", net, 16, tmp_path, image_size=[24, 32])
    images = torch.randn(2, 3, 24, 32)
    with torch.inference_mode():
        assert (run(images) - net(images)).abs().max() < 1e-5
    assert not spec.any_size
    assert net.pos_embed.shape[-2:] == (4, 4)  # the network itself is untouched


def test_network_with_another_scan_shares_the_weights_and_leaves_the_original_alone():
    net = make_plain()
    copied = with_scan(net, unrolled_scan)
    scans = [
        {module.scan for module in one.modules() if isinstance(module, MambaVisionMixer)}
        for one in (net, copied)
    ]
    assert scans == [{selective_scan}, {unrolled_scan}]
    assert net.state_dict().keys() == copied.state_dict().keys()
    assert all(x is y for x, y in zip(net.parameters(), copied.parameters(), strict=True))
    assert all(x is y for x, y in zip(net.buffers(), copied.buffers(), strict=True))


def test_network_without_mixers_is_exported(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1))
    net.append(torch.nn.Flatten())
    for name, options in (("torchscript", {}), ("torch_export", {"scan": "unrolled"})):
        folder = tmp_path / name
        folder.mkdir()
        check(name, net.eval(), 16, folder, **options)


@pytest.mark.parametrize(
    ("mask", "scale"),
    [(None, 0.3), (torch.arange(16.0).view(4, 4), None), (torch.ones(4, 4).tril() > 0, 0.3)],
    ids=["scale", "bias", "mask"],
)
def test_attention_with_a_mask_or_a_scale_is_exported(mask, scale, tmp_path):
    class Net(torch.nn.Module):
        def forward(self, images):
            x = images.flatten(2).unflatten(2, (4, -1))  # three heads, four tokens
            x = torch.nn.functional.scaled_dot_product_attention(x, x, x, mask, scale=scale)
            return x.flatten(1)[:, :5]

    check("onnx", Net().eval(), 16, tmp_path, scan="op")


def test_windows_that_shrink_make_a_graph_for_one_size(tmp_path):
    net = make_hierarchical(clamp_windows=True)
    assert not takes_any_size(net)
    check("torchscript", net, 40, tmp_path)


@pytest.mark.parametrize("scan", ["op", pytest.param("unrolled", marks=slow)])
def test_onnx_describes_itself_and_has_one_scan_node_a_scan(scan, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    export_format = make_format("onnx", scan=scan)
    export_format.write(export_format.make_spec(make_plain(), 3, 16, DESCRIPTION), tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    described = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert described["class_names"] == DESCRIPTION["class_names"]
    assert described["input"]["height"] == 16
    assert described["input"]["any_height_and_width"] is False
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Scan") == (2 if scan == "op" else 0)  # one in each direction
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(node.metadata_props for node in model.graph.node)  # folders of this machine
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape] == [0, 3, 16, 16]


def test_files_for_torch_alone_load_without_this_package(tmp_path):
    net = make_plain(depth=1, bidirectional=False)
    for name, options in (("torchscript", {}), ("torch_export", {"scan": "unrolled"})):
        export_format = make_format(name, **options)
        export_format.write(export_format.make_spec(net, 3, 16, DESCRIPTION), tmp_path)
    program = """
import json, sys, warnings, torch
warnings.simplefilter("ignore")
extra = {"config.json": ""}
script = torch.jit.load("model.ts", _extra_files=extra)
assert json.loads(extra["config.json"])["class_names"][0] == "ant"
extra = {"config.json": ""}
program = torch.export.load("model.pt2", extra_files=extra).module()
assert json.loads(extra["config.json"])["class_names"][0] == "ant"
x = torch.randn(5, 3, 16, 16)
assert (script(x) - program(x)).abs().max() < 1e-5
assert not any(name.startswith("mambavision") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_parity_fails_loudly_on_wrong_numbers_shapes_and_nan(tmp_path):
    export_format = make_format("torchscript")
    spec = export_format.make_spec(make_plain(), 3, 16, DESCRIPTION)

    def wrong(change):
        rows = verify.compare(lambda x: change(spec.net(x).detach()), spec, None, 1e-5)
        with pytest.raises(verify.ParityError, match="no file was written"):
            verify.require_parity(rows, 1e-5)

    wrong(lambda y: y + 1e-3)
    wrong(lambda y: y * float("nan"))
    wrong(lambda y: y[:1, :2])
    rows = verify.compare(lambda x: spec.net(x).detach() + 1e-6, spec, None, 1e-5)
    verify.require_parity(rows, 1e-5)
    assert rows[0].difference == pytest.approx(1e-6, rel=0.2)


def test_formats_refuse_what_a_network_cannot_do(refusal, monkeypatch):
    plain, toy = make_plain(), make_hierarchical()

    def make(net, **options):
        return lambda: make_format("torchscript", **options).make_spec(net, 3, 16, {})

    assert "only the batch can vary" in refusal(make(plain, dynamic_size=True))
    small = make_hierarchical(clamp_windows=True)
    assert "only the batch can vary" in refusal(make(small, dynamic_size=True))
    assert "multiples of the patch size 4" in refusal(make(plain, image_size=18))
    assert "wanted a number of pixels" in refusal(make(plain, image_size=[16]))
    assert "at least the stem's stride" in refusal(make(toy, image_size=2))
    assert make(toy, dynamic_size=False)().any_size is False

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    given = {"scan": "op", "tolerance": 1e-5}
    for kind, options, extra in (
        (OnnxFormat, given, "onnx"),
        (OrtFormat, given, "onnx"),
        (WebFormat, {"runtime": "dist", **given}, "onnx"),
        (OpenvinoFormat, given, "openvino"),
        (ExecutorchFormat, {"tolerance": 1e-5}, "executorch"),
    ):
        message = refusal(lambda kind=kind, options=options: kind(**options))
        assert f"export={kind.name} needs " in message
        assert f"pip install 'mambavision-lab[{extra}]'" in message


def test_openvino_is_not_given_other_files(refusal, tmp_path, capfd):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    path = tmp_path / "model.xml"
    path.write_text('<?xml version="1.0"?><page/>')
    assert "is no network of OpenVINO's" in refusal(lambda: load_exported(path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tolerance", [-1e-5, float("nan"), float("inf")])
def test_tolerance_is_a_number(tolerance, refusal):
    assert "wanted a number from 0" in refusal(lambda: TorchscriptFormat(tolerance=tolerance))


@pytest.mark.parametrize(
    "options", [{"max_drop": 0.1}, {"num_calibration": 8}, {"reduce_range": True}]
)
def test_settings_of_8_bits_are_refused_without_them(options, refusal):
    message = refusal(lambda: OnnxFormat(scan="op", tolerance=1e-5, **options))
    assert "add export.quantize=static" in message


@slow
@pytest.mark.parametrize("scan", ["op"])
def test_published_tiny_as_onnx_is_small_and_exact(scan, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    from golden.hierarchical_cases import make_net

    net = make_net("T_224x224")
    check("onnx", net, 224, tmp_path, scan=scan)
    path = tmp_path / "model.onnx"
    assert path.stat().st_size <= 130e6
    assert len(onnx.load(path).graph.node) <= 650


@slow
@pytest.mark.parametrize(("name", "options"), [("openvino", {"scan": "op"}), ("torchscript", {})])
def test_published_tiny_in_other_formats_is_exact(name, options, tmp_path):
    from golden.hierarchical_cases import make_net

    check(name, make_net("T_224x224"), 224, tmp_path, **options)


@pytest.mark.parametrize(("sides", "has_masks"), [((16, 16), True), ((4, 16, 16), False)])
def test_web_page_of_masks_or_volumes_is_refused(sides, has_masks, tmp_path, refusal):
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).touch()
    web = WebFormat(runtime=str(tmp_path), scan="op", tolerance=1e-5)
    description = {"preprocessing": {}, "class_names": ["a"], "has_masks": has_masks}
    spec = SimpleNamespace(description=description, sides=sides, in_chans=3)
    assert "classifies images" in refusal(lambda: web.write(spec, tmp_path))
    assert not (tmp_path / "model.html").exists()


def test_page_takes_names_as_text_and_crops_as_python_does(tmp_path, monkeypatch):
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).write_bytes(b"1")
    web = WebFormat(runtime=str(tmp_path), scan="op", tolerance=1e-5)
    monkeypatch.setattr(web, "write_graph", lambda spec, path: path.write_bytes(b"2"))
    description = {"preprocessing": {"mean": [0.5], "std": [0.5]}, "class_names": ["</script>"]}
    description["name"] = "R&D <img src=x onerror=alert(1)>"
    web.write(SimpleNamespace(description=description, sides=(8, 8), in_chans=3), tmp_path)
    page = (tmp_path / "model.html").read_text()
    assert "<title>R&amp;D &lt;img src=x onerror=alert(1)&gt;</title>" in page
    assert "<img" not in page
    (about,) = re.findall(r"const about = (.*);", page)
    read = json.loads(about)
    assert (read["name"], read["classes"]) == (description["name"], ["</script>"])
    assert (read["crop"], read["background"]) == (CROP_FRACTION, list(WHITE))
