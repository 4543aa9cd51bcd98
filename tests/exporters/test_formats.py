"""Every format, read back in its own runtime, computes what the network does."""

import json
import subprocess
import sys

import pytest
import torch
from export_cases import (
    DESCRIPTION,
    FORMATS,
    TOLERANCES,
    make_format,
    make_hierarchical,
    make_plain,
)

from mambavision_lab.exporters import verify
from mambavision_lab.exporters.base import takes_any_size

slow = pytest.mark.slow


def check(name, net, size, folder, **options):
    """Export a network, compare it everywhere; returns the folder's runtime and the target."""
    form = make_format(name, **options)
    target = form.target(net, 3, size, DESCRIPTION)
    form.write(target, folder)
    run = form.load(folder)
    assert {path.name for path in folder.iterdir()} == set(form.files)
    rows = verify.compare(run, target, torch.rand(2, 3, size, size), TOLERANCES[name])
    verify.require_parity(rows, TOLERANCES[name])
    assert {row.images for row in rows} == {"random", "real"}
    assert {row.batch for row in rows} == {1, 3, 8}
    assert min(row.largest_logit for row in rows) > 1e-2  # something was compared
    return run, target


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
    run, target = check(name, make_hierarchical(), 64, tmp_path, **options)
    assert target.any_size
    # 64 x 64 fills whole windows, the others do not; 33 x 200 and 20 x 20 are no multiple of anything.
    assert verify.sizes(target) == [(64, 64), (96, 96), (320, 480)]
    with torch.inference_mode():
        for height, width in ((33, 200), (20, 20)):
            images = torch.randn(2, 3, height, width)
            assert (run(images) - target.net(images)).abs().max() < 1e-5


def test_export_at_another_size_has_the_position_embedding_of_that_size(tmp_path):
    net = make_plain()
    run, target = check("torchscript", net, 16, tmp_path, image_size=[24, 32])
    images = torch.randn(2, 3, 24, 32)
    with torch.inference_mode():
        assert (run(images) - net(images)).abs().max() < 1e-5
    assert not target.any_size
    assert net.pos_embed.shape[-2:] == (4, 4)  # the network itself is untouched


def test_windows_that_shrink_make_a_graph_for_one_size(tmp_path):
    net = make_hierarchical(clamp_windows=True)
    assert not takes_any_size(net)
    check("torchscript", net, 40, tmp_path)


@pytest.mark.parametrize("scan", ["op", pytest.param("unrolled", marks=slow)])
def test_onnx_describes_itself_and_has_one_scan_node_a_scan(scan, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    form = make_format("onnx", scan=scan)
    form.write(form.target(make_plain(), 3, 16, DESCRIPTION), tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    described = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert described["class_names"] == DESCRIPTION["class_names"]
    assert described["input"]["height"] == 16
    assert described["input"]["any_height_and_width"] is False
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Scan") == (2 if scan == "op" else 0)  # there and back
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(node.metadata_props for node in model.graph.node)  # folders of this machine
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape] == [0, 3, 16, 16]


def test_files_for_torch_alone_load_without_this_package(tmp_path):
    net = make_plain(depth=1, bidirectional=False)
    for name, options in (("torchscript", {}), ("torch_export", {"scan": "unrolled"})):
        form = make_format(name, **options)
        form.write(form.target(net, 3, 16, DESCRIPTION), tmp_path)
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
    form = make_format("torchscript")
    target = form.target(make_plain(), 3, 16, DESCRIPTION)

    def wrong(change):
        rows = verify.compare(lambda x: change(target.net(x).detach()), target, None, 1e-5)
        with pytest.raises(verify.ParityError, match="nothing was kept"):
            verify.require_parity(rows, 1e-5)

    wrong(lambda y: y + 1e-3)
    wrong(lambda y: y * float("nan"))
    wrong(lambda y: y[:1, :2])
    rows = verify.compare(lambda x: target.net(x).detach() + 1e-6, target, None, 1e-5)
    verify.require_parity(rows, 1e-5)
    assert rows[0].difference == pytest.approx(1e-6, rel=0.2)


def test_formats_refuse_what_a_network_cannot_do(refusal, monkeypatch):
    plain, toy = make_plain(), make_hierarchical()

    def target(net, **options):
        return lambda: make_format("torchscript", **options).target(net, 3, 16, {})

    assert "only the batch can vary" in refusal(target(plain, dynamic_size=True))
    small = make_hierarchical(clamp_windows=True)
    assert "only the batch can vary" in refusal(target(small, dynamic_size=True))
    assert "multiples of the patch size 4" in refusal(target(plain, image_size=18))
    assert "wanted a number of pixels" in refusal(target(plain, image_size=[16]))
    assert "at least the stem's stride" in refusal(target(toy, image_size=2))
    assert target(toy, dynamic_size=False)().any_size is False

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("onnx", "openvino"):
        message = refusal(lambda name=name: FORMATS[name](scan="op", tolerance=1e-5))
        assert f"pip install 'mambavision-lab[{name}]'" in message


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
