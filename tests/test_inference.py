"""Inference from a checkpoint equals the network itself, with the preprocessing of the test."""

import io
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import assert_close
from torchvision.transforms.v2 import functional as TF

from mambavision_lab import MambaVisionInference
from mambavision_lab.data.folders import VOLUMES
from mambavision_lab.data.image_files import evaluation_transform
from mambavision_lab.models.ranking import rank
from mambavision_lab.models.tta import TestTimeAugmentation

NAMES = ["ant", "bee", "cat"]
TOY = {"num_classes": 3, "image_size": 16, "patch_size": 4, "stem_dim": 4, "embed_dim": 8}
TOY |= {"depth": 2, "num_heads": 2, "mlp_ratio": 2, "d_state": 4}


@pytest.fixture
def make_checkpoint(make_net, tmp_path):
    """Write a run folder with a toy's checkpoint; returns the folder and the network."""

    def make(in_chans=3, target="mambavision_lab.models.plain.PlainMambaVision", **metadata):
        net = make_net(**{**TOY, "in_chans": in_chans}).eval()
        torch.nn.init.normal_(net.head.weight)
        data = {"image_size": 16, "in_chans": in_chans, "mean": [0.4], "std": [0.2]}
        data |= {"num_classes": 3, "class_names": NAMES, "keeps_aspect": True, **metadata}
        model = {"_target_": target, **TOY, "in_chans": in_chans}
        (tmp_path / "checkpoints").mkdir()
        torch.save(
            {
                "state_dict": {f"net.{key}": value for key, value in net.state_dict().items()},
                "hyper_parameters": {"name": "toy", "model": model, "data": data},
            },
            tmp_path / "checkpoints" / "best.ckpt",
        )
        return tmp_path, net

    return make


@pytest.fixture
def images():
    generated = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)
    return [*generated]


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - 0.4) / 0.2


def test_inference_gives_the_networks_own_probabilities(make_checkpoint, images):
    folder, net = make_checkpoint()
    inference = MambaVisionInference(folder, device="cpu")
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    cropped = torch.stack([evaluation_transform(16)(tensor) for tensor in tensors])
    with torch.no_grad():
        expected = net(normalized(cropped)).softmax(dim=1)
    rankings = inference.predict(images, top_k=9, batch_size=2)
    assert [len(ranking) for ranking in rankings] == [3] * 5
    for ranking, row in zip(rankings, expected, strict=True):
        assert [name for name, _ in ranking] == [NAMES[i] for i in row.argsort(descending=True)]
        found = torch.tensor([dict(ranking)[name] for name in NAMES])
        assert_close(found, row, torch.float32)
    one = inference.predict(Image.fromarray(images[3]), top_k=1)
    assert one[0][0] == rankings[3][0][0]
    assert inference.predict([]) == []


def test_inference_reads_bytes_and_open_files(make_checkpoint, images, tmp_path):
    inference = MambaVisionInference(make_checkpoint()[0], device="cpu")
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    encoded = (tmp_path / "a.png").read_bytes()
    expected = inference.predict(images[0])
    with (tmp_path / "a.png").open("rb") as file:
        for source in (encoded, io.BytesIO(encoded), file):
            assert inference.predict(source) == expected
        features = inference.features([file, io.BytesIO(encoded)])
        assert features[0].equal(features[1])


def test_inference_uses_the_range_and_the_background_of_the_training(make_checkpoint, tmp_path):
    settings = {"value_range": [1000.0, 3000.0], "background": [9, 8, 7]}
    trained = MambaVisionInference(make_checkpoint(**settings)[0], device="cpu")
    trained.save_pretrained(tmp_path / "saved")
    deep = Image.fromarray(np.full((16, 16), 2000, np.uint16))
    clear = Image.new("RGBA", (16, 16), (200, 200, 200, 0))
    for inference in (trained, MambaVisionInference(tmp_path / "saved", device="cpu")):
        assert inference.description["preprocessing"].items() >= settings.items()
        assert inference.prepare(deep).unique().tolist() == [128]
        assert inference.prepare(clear)[:, 0, 0].tolist() == [9, 8, 7]


def test_inference_crops_as_the_training_did(make_checkpoint, tmp_path):
    trained = MambaVisionInference(make_checkpoint(crop_fraction=0.8)[0], device="cpu")
    trained.save_pretrained(tmp_path / "saved")
    framed = Image.new("L", (20, 20))
    framed.paste(255, (2, 2, 18, 18))
    for inference in (trained, MambaVisionInference(tmp_path / "saved", device="cpu")):
        assert inference.image_size == 16
        assert inference.prepare(framed).min() == 255


def test_inference_averages_over_views(make_checkpoint):
    folder, _ = make_checkpoint()
    tta = TestTimeAugmentation(flip=True)
    inference = MambaVisionInference(folder, device="cpu", tta=tta)
    pixels = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    images = inference.normalize(pixels)
    with torch.inference_mode():
        expected = (inference.net(images).softmax(1) + inference.net(images.flip(3)).softmax(1)) / 2
    assert torch.allclose(inference.logits(pixels).exp(), expected, atol=1e-6)


def test_inference_of_an_older_checkpoint_takes_all_16_bits_and_white(make_checkpoint):
    inference = MambaVisionInference(make_checkpoint()[0], device="cpu")
    deep = Image.fromarray(np.full((16, 16), 32896, np.uint16))
    assert inference.prepare(deep).unique().tolist() == [128]
    assert inference.prepare(Image.new("LA", (16, 16), (0, 0))).unique().tolist() == [255]


def test_inference_features_are_what_the_head_reads(make_checkpoint, images):
    folder, net = make_checkpoint()
    inference = MambaVisionInference(folder / "checkpoints" / "best.ckpt", device="cpu")
    features = inference.features(images, batch_size=2)
    logits = inference.logits(torch.stack([inference.prepare(image) for image in images]))
    assert features.shape == (5, 8)
    assert_close(net.head(features), logits, torch.float32)
    assert inference.features(images[0]).shape == (8,)


def test_inference_squashes_where_the_data_were_squashed(make_checkpoint, images):
    folder, _ = make_checkpoint(in_chans=1, keeps_aspect=False)
    inference = MambaVisionInference(folder, device="cpu")
    grey = torch.from_numpy(images[0]).permute(2, 0, 1)
    expected = TF.resize(TF.rgb_to_grayscale(grey), [16, 16], antialias=True)
    assert inference.prepare(images[0]).equal(expected)


def test_inference_without_class_names_gives_features_only(make_checkpoint, images, refusal):
    folder, _ = make_checkpoint(class_names=None)
    inference = MambaVisionInference(folder, device="cpu")
    assert "has no class names" in refusal(lambda: inference.predict(images))
    assert inference.features(images).isfinite().all()


def test_inference_refuses_what_it_cannot_use(make_checkpoint, tmp_path, refusal):
    def load(path, device="cpu"):
        return lambda: MambaVisionInference(path, device=device)

    assert "holds no checkpoints/best.ckpt" in refusal(load(tmp_path))
    assert "no such file" in refusal(load(tmp_path / "no.ckpt"))
    folder, _ = make_checkpoint()
    assert "no such kind of device" in refusal(load(folder, "tpux"))


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "mambavision_lab.models.plain.torch.os.system", "None"),
        *("mambavision_lab.models.create.import_module", "mambavision_lab.models.absent.Net"),
    ],
)
def test_network_that_a_file_names_is_one_of_ours_or_is_not_called(
    target, make_checkpoint, refusal
):
    folder, _ = make_checkpoint(target=target)
    message = refusal(lambda: MambaVisionInference(folder, device="cpu"))
    assert f"its network is {target}; wanted one of mambavision_lab.models" in message


def test_saved_network_is_the_same_when_it_is_loaded(make_checkpoint, images, tmp_path, refusal):
    folder, _ = make_checkpoint()
    trained = MambaVisionInference(folder, device="cpu")
    trained.save_pretrained(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    for saved in (
        MambaVisionInference.from_pretrained(tmp_path / "saved", device="cpu"),
        MambaVisionInference(tmp_path / "saved", device="cpu"),
    ):
        assert saved.predict(images) == trained.predict(images)
        assert saved.features(images).equal(trained.features(images))
        assert saved.description == trained.description
    before = (tmp_path / "saved" / "model.safetensors").read_bytes()
    assert "is already there" in refusal(lambda: saved.save_pretrained(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == before
    (tmp_path / "saved" / "model.safetensors").write_bytes(before[:100])
    assert "is damaged" in refusal(lambda: MambaVisionInference(tmp_path / "saved"))


def test_folder_saved_before_there_were_model_cards_is_loaded(make_checkpoint, images, tmp_path):
    folder, _ = make_checkpoint()
    trained = MambaVisionInference(folder, device="cpu")
    trained.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "README.md").unlink()
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert {*config} == {
        "architecture",
        "preprocessing",
        "class_names",
        "is_multilabel",
        "has_masks",
        "name",
    }
    for later in ("name", "is_multilabel", "has_masks"):
        del config[later]
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    saved = MambaVisionInference.from_pretrained(tmp_path / "saved", device="cpu")
    assert saved.predict(images) == trained.predict(images)


def test_model_card_names_network_metrics_classes_licence_and_usage(make_checkpoint, tmp_path):
    folder, _ = make_checkpoint()
    metrics = {"val/acc1": 0.9, "test/acc1": 0.875, "test/loss": 0.5, "test/images_per_s": 99.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    trained = MambaVisionInference(folder, device="cpu")
    trained.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert {"library_name: mambavision-lab", "pipeline_tag: image-classification"} <= {
        *head.splitlines()
    }
    for part in (
        *("# toy\n", "PlainMambaVision", "3 x 16 x 16", "from_pretrained(", "ant, bee, cat"),
        *("| test/acc1 | 87.50% |\n| test/loss | 0.5000 |\n", "CC-BY-NC-SA 4.0"),
    ):
        assert part in text
    assert "images_per_s" not in card
    again = MambaVisionInference(tmp_path / "saved", device="cpu")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("my own card")
    again.save_pretrained(tmp_path / "own")
    assert (tmp_path / "own" / "README.md").read_text() == "my own card"
    assert str(again.generate_model_card()) == str(trained.generate_model_card())


def test_model_card_of_a_segmentation_is_found_as_one(make_checkpoint):
    trained = MambaVisionInference(make_checkpoint(has_masks=True)[0], device="cpu")
    assert trained.generate_model_card().data.pipeline_tag == "image-segmentation"
    assert trained._hub_mixin_info.model_card_data.pipeline_tag == "image-classification"


def test_views_at_test_time_of_a_segmentation_are_refused(make_checkpoint, refusal):
    folder, _ = make_checkpoint(has_masks=True)
    tta = TestTimeAugmentation(flip=True)
    message = refusal(lambda: MambaVisionInference(folder, device="cpu", tta=tta))
    assert message.startswith("tta: takes networks that classify images")


def test_channels_that_no_image_file_has_are_those_of_arrays_and_volumes(make_checkpoint, refusal):
    inference = MambaVisionInference(make_checkpoint(in_chans=4)[0], device="cpu")
    message = refusal(lambda: inference.require_file_channels("run"))
    assert message.startswith("run: its network takes 4 channels, which no image file has")
    inference.preparation = replace(inference.preparation, kind=VOLUMES)
    inference.require_file_channels("run")


def test_damaged_metrics_do_not_keep_a_network_from_loading(make_checkpoint):
    folder, _ = make_checkpoint()
    for text in ("{", "[1]", "3"):
        (folder / "metrics.json").write_text(text)
        assert "metrics" not in MambaVisionInference(folder, device="cpu").description


def test_network_travels_over_the_hub(make_checkpoint, images, tmp_path, monkeypatch, refusal):
    hub, calls = tmp_path / "hub", {}

    class FakeApi:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, *, private, exist_ok):
            calls["private"] = private
            (hub / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, revision, **options):
            calls["branch"] = revision
            shutil.copytree(folder_path, hub / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}"

    def download(repo_id, *, revision, token, allow_patterns):
        calls["download"] = (revision, token)
        if not (hub / repo_id).is_dir():
            raise OSError("no such repository")
        return str(hub / repo_id)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FakeApi)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    trained = MambaVisionInference(make_checkpoint()[0], device="cpu")
    address = trained.push_to_hub("me/toy", private=True, token="hf_me", branch="dev")
    assert address.endswith("me/toy")
    assert calls == {"token": "hf_me", "private": True, "branch": "dev"}
    assert 'from_pretrained("me/toy")' in (hub / "me" / "toy" / "README.md").read_text()
    options = {"revision": "dev", "token": "hf_me", "device": "cpu"}
    fetched = MambaVisionInference.from_pretrained("me/toy", **options)
    assert calls["download"] == ("dev", "hf_me")
    assert fetched.predict(images) == trained.predict(images)
    message = refusal(lambda: MambaVisionInference.from_pretrained("me/absent"))
    assert "me/absent: no such folder here" in message
    (hub / "me" / "toy" / "config.json").unlink()
    assert "holds no model.safetensors and config.json" in refusal(
        lambda: MambaVisionInference.from_pretrained("me/toy")
    )


def test_rank_leaves_out_outputs_without_a_class():
    ranking = rank(torch.tensor([[0.0, 0.0, 99.0]]), ["ant", "bee"], 2)[0]
    assert dict(ranking) == {"ant": 0.5, "bee": 0.5}


def test_network_of_several_labels_gives_all_classes_above_a_threshold(make_checkpoint, images):
    folder, net = make_checkpoint(is_multilabel=True)
    inference = MambaVisionInference(folder, device="cpu")
    pixels = torch.stack([inference.prepare(image) for image in images])
    with torch.inference_mode():
        probabilities = net(normalized(pixels)).sigmoid()
    for threshold in (0.0, 0.5, 1.0):
        for found, expected in zip(
            inference.predict(images, threshold=threshold), probabilities.tolist(), strict=True
        ):
            named = sorted(zip(expected, NAMES, strict=True), reverse=True)
            named = [(name, p) for p, name in named if p >= threshold]
            assert [name for name, _ in found] == [name for name, _ in named]
            assert [p for _, p in found] == pytest.approx([p for _, p in named], abs=1e-5)
    inference.save_pretrained(folder / "saved")
    assert MambaVisionInference.from_pretrained(folder / "saved", device="cpu").is_multilabel
