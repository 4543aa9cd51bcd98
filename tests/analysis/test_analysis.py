"""Costs counted on small networks, against numbers worked out by hand."""

import csv

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mambavision_lab
from mambavision_lab.analysis.__main__ import load_model, main
from mambavision_lab.analysis.analyze import num_params
from mambavision_lab.ops.selective_scan import selective_scan
from mambavision_lab.ops.selective_scan.flops import scan_flops


def test_analysis_counts_a_convolution_and_a_linear_layer():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    total = mambavision_lab.analyze_model(net, (3, 4, 4)).total
    assert total.num_params == 8 * 27 + 8 + 128 * 5 + 5
    assert total.macs == 16 * 8 * 27 + 128 * 5
    assert total.output_shape == (1, 5)


def test_analysis_of_the_plain_family_sums_to_its_total(make_net):
    analysis = mambavision_lab.analyze_model(make_net(), (2, 16, 16))
    parts = analysis.stages[:-1]
    assert {"stem", "blocks.0", "blocks.1", "head"} <= {stage.name for stage in parts}
    assert sum(stage.macs for stage in parts) == analysis.total.macs
    assert all(stage.activation_bytes > 0 for stage in parts if stage.name.startswith("blocks"))


def test_scan_is_counted_by_its_formula():
    u, A = torch.randn(2, 7, 4), -torch.rand(4, 3)
    B = torch.randn(2, 7, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        selective_scan(u, u, A, B, B, backend="torch")
    assert counter.get_total_flops() == scan_flops(u.shape, A.shape) == 2 * 7 * 4 * 22


@pytest.mark.parametrize("shape", [(3, 4), (3, 0, 4)])
def test_analysis_refuses_what_is_no_image(shape):
    with pytest.raises(ValueError, match=r"wanted \(C, H, W\)"):
        mambavision_lab.analyze_model(nn.Conv2d(3, 8, 3), shape)


def test_command_writes_table_csv_and_picture(tmp_path, capsys):
    options = ["image_sizes=32,64", "batch_sizes=1", f"output={tmp_path}"]
    main(["model=mambavision_nano", *options])
    with (tmp_path / "mambavision_nano.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image_size"] for row in rows] == ["32", "64"]
    assert all(float(row["peak_memory_mib"]) > 0 for row in rows)
    assert (tmp_path / "mambavision_nano.png").stat().st_size > 1000

    # Nothing is overwritten unless asked for.
    before = (tmp_path / "mambavision_nano.csv").read_bytes()
    with pytest.raises(SystemExit):
        main(["model=mambavision_nano", *options])
    error = capsys.readouterr().err
    assert "mambavision_nano.csv: is already there; give overwrite=true" in error
    assert error.count("\n") == 1
    assert (tmp_path / "mambavision_nano.csv").read_bytes() == before
    main(["model=mambavision_nano", *options, "overwrite=true"])
    assert (tmp_path / "mambavision_nano.csv").read_bytes() != before


def test_names_with_folders_and_those_of_timm_are_found():
    assert num_params(load_model("nvidia/mambavision_t", 224, 1000)) == 31_794_248
    assert num_params(load_model("resnet10t", 64, 7)) == num_params(
        timm.create_model("resnet10t", num_classes=7)
    )


@pytest.mark.parametrize(
    "option",
    ["model=absent", "model=nvidia/absent", "model=../train", "image_sizes=x", "colour=blue"],
)
def test_command_refuses_in_one_line(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main([option])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
