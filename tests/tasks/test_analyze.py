"""analyze.py as a user runs it: fresh and trained networks, files, and what it refuses."""

import csv
import shutil

import pytest
import timm
import torch
from task_options import TRAIN

from mambavision_lab import MambaVisionInference, create_mambavision
from mambavision_lab.analysis.analyze import num_params

TOY = "model.stem_dim=8 model.embed_dim=16 model.depth=2 model.num_heads=2 device=cpu".split()


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def analyses(tmp_path):
    """Folders of the analyses so far, in order."""
    return lambda: sorted((tmp_path / "logs" / "analyze").iterdir())


def test_analyze_writes_table_csv_and_picture_into_the_run_folder(call, analyses):
    status, out, err = call("analyze", *TOY, "image_sizes=[32,64]", "batch_sizes=[1,3]")
    assert (status, err) == (0, "")
    assert "input 1 x 3 x 32 x 32" in out
    (folder,) = analyses()
    rows = rows_of(folder / "mambavision_nano.csv")
    sizes = [(row["image_size"], row["batch_size"]) for row in rows]
    assert sizes == [("32", "1"), ("32", "3"), ("64", "1"), ("64", "3")]
    for row in rows:
        latency, fastest, slowest, memory = (
            float(row[key]) for key in ("latency_ms", "fastest_ms", "slowest_ms", "peak_memory_mib")
        )
        assert 0 < fastest <= latency <= slowest
        assert memory > 0
    assert (folder / "mambavision_nano.png").stat().st_size > 1000
    assert {path.name for path in folder.iterdir()} >= {"config.yaml", "provenance.json"}


def test_analyze_overwrites_nothing_unless_told_to(call, tmp_path):
    options = [*TOY, "batch_sizes=[1]", "data.image_size=32", f"output={tmp_path}/made/here"]
    assert call("analyze", *options)[0] == 0
    path = tmp_path / "made" / "here" / "mambavision_nano.csv"
    before = path.read_bytes()
    status, _, error = call("analyze", *options)
    assert (status, error.count("\n")) == (2, 1)
    assert "mambavision_nano.csv is already there; give overwrite=true" in error
    assert path.read_bytes() == before
    assert call("analyze", *options, "overwrite=true")[0] == 0
    assert path.read_bytes() != before
    (tmp_path / "file").touch()
    status, _, error = call("analyze", *options, f"output={tmp_path}/file/below")
    assert (status, error.count("\n")) == (2, 1)
    assert "file is not a folder" in error


@pytest.fixture
def analyzed(monkeypatch):
    """Networks that analyze.py counted and timed, with channels and image sizes; none is timed."""
    from mambavision_lab.tasks import analyze

    seen = []

    def record(net, in_chans, image_sizes, batch_sizes, num_slices):
        assert num_slices is None
        seen.append((net, in_chans, list(image_sizes)))
        return []

    monkeypatch.setattr(analyze, "measure", record)
    monkeypatch.setattr(analyze, "plot", lambda *_: None)
    return seen


def test_analyze_takes_any_network_and_its_options(call, analyzed, tmp_path):
    output = f"output={tmp_path}/side_by_side"
    assert call("analyze", "model=mambavision_tiny", "model.depth=3", "device=cpu", output)[0] == 0
    net, in_chans, sizes = analyzed.pop()
    assert len(net.blocks) == 3
    assert (in_chans, sizes) == (3, [224])
    options = ["image_sizes=[64]", "data.num_classes=7", "device=cpu", output]
    assert call("analyze", "model=timm", "model.name=resnet10t", *options)[0] == 0
    net, _, sizes = analyzed.pop()
    assert num_params(net) == num_params(timm.create_model("resnet10t", num_classes=7))
    assert sizes == [64]
    assert call("analyze", "model=nvidia/mambavision_t", "image_sizes=[64]", *options[2:])[0] == 0
    assert num_params(analyzed.pop()[0]) == 31_794_248
    names = {path.name for path in (tmp_path / "side_by_side").iterdir()}
    assert names == {"mambavision_tiny.csv", "resnet10t.csv", "mambavision_t.csv"}


def test_network_is_made_for_the_first_of_the_image_sizes(call, analyzed):
    options = ["image_sizes=[32,48]", "data.in_chans=1", "device=cpu"]
    assert call("analyze", *options)[0] == 0
    net, in_chans, sizes = analyzed.pop()
    expected = create_mambavision("mambavision_nano", image_size=32, in_chans=1)
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in expected.state_dict().items()
    }
    assert (in_chans, sizes) == (1, [32, 48])


def test_analyze_takes_a_trained_network(call, analyzed, analyses, tmp_path):
    assert call("train", *TRAIN)[0] == 0
    run = (tmp_path / "logs" / "latest").resolve()
    saved = tmp_path / "saved"
    trained = MambaVisionInference(run, device="cpu")
    trained.save_pretrained(saved)
    sources = {
        f"from_run={run}": f"{run.name}-best",
        f"ckpt_path={run}/checkpoints/last.ckpt": f"{run.name}-last",
        f"ckpt_path={saved}/model.safetensors": "saved-model",
    }
    for source, name in sources.items():
        status, _, err = call("analyze", source, "device=cpu")
        assert (status, err) == (0, "")
        net, in_chans, sizes = analyzed.pop()
        assert (in_chans, sizes) == (3, [32])
        assert all(map(torch.equal, net.parameters(), trained.net.parameters()))
        assert (analyses()[-1] / f"{name}.csv").is_file()
    assert call("analyze", f"from_run={run}", "device=cpu", "image_sizes=[64]")[0] == 0
    assert analyzed.pop()[2] == [64]

    shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "stray.ckpt")  # no run around it
    assert call("analyze", f"ckpt_path={tmp_path}/stray.ckpt", "device=cpu")[0] == 0
    (tmp_path / "junk.ckpt").write_bytes(b"not a checkpoint")
    refused = {
        (
            f"from_run={run}",
            "model.depth=8",
        ): "model.depth=8: cannot change a trained network",
        (f"from_run={tmp_path}/none",): "no such file or folder",
        (f"ckpt_path={tmp_path}/none.ckpt",): "none.ckpt: no such file",
        (f"ckpt_path={tmp_path}/junk.ckpt",): "is no checkpoint",
    }
    for given, named in refused.items():
        status, _, err = call("analyze", *given)
        assert (status, err.count("\n")) == (2, 1), err
        assert named in err


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("model=absent", "model=absent: no such choice"),
        ("model=nvidia/absent", "model=nvidia/absent: no such choice"),
        ("model=../train", "model"),
        ("model=timm", "model.name is missing; give model.name=VALUE"),
        ("model.depth=three", "model.depth=three: wanted int"),
        ("model.quux=3", "model.quux: no such option; it has "),
        ("image_sizes=x", "image_sizes: wanted a list; give image_sizes=[VALUE,...]"),
        ("image_sizes=224,256", "several values need a sweep; add -m"),
        ("image_sizes=[]", "image_sizes=[]: wanted positive whole numbers"),
        ("image_sizes=[0]", "image_sizes=[0]: wanted positive whole numbers"),
        ("model=nvidia/mambavision_t image_sizes=[3]", "image_sizes=[3]: image of 3 x 3 pixels"),
        ("batch_sizes=[-1]", "batch_sizes=[-1]: wanted positive whole numbers"),
        ("batch_sizes=null", "batch_sizes"),
        ("data.num_classes=-1", "data.num_classes=-1: wanted positive whole numbers"),
        ("data.image_size=x", "data.image_size: "),
        ("data.widht=3", "data.widht: no such option"),
        ("device=abacus", "device=abacus"),
        ("ops.selective_scan.backend=fast", "ops.selective_scan.backend=fast: no such backend"),
        ("colour=blue", "colour: no such option"),
        ("blue", "wanted key=value"),
    ],
)
def test_analyze_refuses_in_one_line(call, option, named):
    status, _, err = call("analyze", *option.split())
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: ")
    assert named in err


def test_analyze_has_help_and_a_check(call):
    out = call("analyze", "--help")[1]
    assert "\n  model=\n" in out
    assert out.partition("Examples:")[2].count("python analyze.py") == 5
    assert "1 job checked, nothing wrong" in call("analyze", "check=true", "image_sizes=[64]")[1]
