"""The table of networks: MACs against the published ones, and the copy in docs/networks.md."""

from pathlib import Path

import pytest
import torch
from rich.console import Console
from toys import HIERARCHICAL_TOY

from mambavision_lab.models import __main__ as command
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.macs import count_macs
from mambavision_lab.models.registry import VARIANTS
from mambavision_lab.models.table import (
    markdown,
    measure,
    measure_all,
    replace_block,
    rich_table,
)

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
# G MACs at 224 px: Hatamizadeh and Kautz 2024, arXiv:2407.08083, table 1.
PUBLISHED = {"t": 4.4, "t2": 5.1, "s": 7.5, "b": 15.0, "l": 34.9, "l2": 37.5}


@pytest.fixture(scope="module")
def rows():
    return {row.variant.config: row for row in measure_all()}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_macs_are_within_three_percent_of_the_published(name, published, rows):
    row = rows[f"nvidia/mambavision_{name}"]
    assert row.macs.layers / 1e9 == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_is_counted_apart_and_alike_on_every_device(device):
    with torch.device(device):
        net = MambaVision(**HIERARCHICAL_TOY).train()
        linear = MambaVision(**HIERARCHICAL_TOY, mamba_ratio=1.0)
    # One attention block of three in the third stage, one of two in the last; maps of 4 x 4 and 2 x 2.
    assert count_macs(net, 64).attention == 2 * 16 * (4 * 4) * (4 * 4) + 2 * 32 * (2 * 2) * (2 * 2)
    assert net.training
    assert count_macs(linear, 64).attention == 0


def test_convolution_counts_one_for_each_product():
    conv = torch.nn.Conv2d(3, 5, kernel_size=3, padding=1)
    assert count_macs(conv, 8) == (8 * 8 * 5 * 3 * 9, 0)


def test_table_of_the_networks_page_is_the_one_that_is_printed(rows):
    text = PAGE.read_text(encoding="utf-8")
    assert replace_block(text, markdown(rows.values())) == text


def test_printed_table_has_every_network_and_its_published_accuracy(rows):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(rich_table(rows.values()))
    out = captured.get()
    for variant in VARIANTS:
        assert f" {variant.config} " in out
    assert "82.3" in out


def test_command_writes_between_the_markers_only(tmp_path, capsys, monkeypatch, rows):
    monkeypatch.setattr(command, "measure_all", lambda: rows.values())
    text = PAGE.read_text(encoding="utf-8")
    file = tmp_path / "README.md"
    file.write_text(replace_block(text, "old"), encoding="utf-8")
    assert "is already there; give --overwrite" in refused(["--output", str(file)], capsys)
    assert "old" in file.read_text(encoding="utf-8")
    command.main(["--output", str(file), "--overwrite"])
    assert file.read_text(encoding="utf-8") == text
    file.write_text("no markers")
    message = refused(["--output", str(file), "--overwrite"], capsys)
    assert "wanted the two lines" in message
    assert file.read_text() == "no markers"
    command.main(["--output", str(tmp_path / "new.md")])
    text = (tmp_path / "new.md").read_text(encoding="utf-8")
    assert replace_block(text, markdown(rows.values())) == text
    assert "--output" in refused(["--output", str(tmp_path / "none" / "new.md")], capsys)
    command.main(["--markdown"])
    assert capsys.readouterr().out.strip() == markdown(rows.values())


def refused(arguments, capsys):
    """Call the command with what it must refuse; returns the one line that it prints."""
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    message = capsys.readouterr().err
    assert (caught.value.code, message.count("\n")) == (2, 1)
    assert message.startswith("error: --output")
    return message


def test_row_has_parameters_of_the_whole_network():
    row = measure(VARIANTS[0])
    assert row.cells()[:3] == ("mambavision_nano", "32", "0.49")
