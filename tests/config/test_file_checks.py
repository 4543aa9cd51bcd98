import pytest
from composing import check as check_command
from omegaconf import OmegaConf

from mambavision_lab.config.check import check_config
from mambavision_lab.config.file_checks import check_files

_CLASSES = ("train/cat", "train/dog", "val/cat", "val/dog")


def check(compose, *overrides):
    check_config(compose("train", *overrides))


@pytest.mark.parametrize(
    "data",
    [
        ("data=imagenet",),
        ("data=image_folder", "data.num_classes=3"),
        ("data=image_folder", "data.classes=[cat,dog]"),
        ("data=webdataset", "data.num_classes=3"),
        ("data=webdataset", "data.classes=[cat,dog]"),
    ],
)
def test_data_sets_that_are_not_downloaded_must_be_there(tmp_path, refusal, data):
    root = tmp_path / "nowhere"
    message = refusal(lambda: check_command("train", *data, f"data.root={root}"))
    assert message.startswith(f"data.root={root}: no such folder; wanted ")


def test_data_sets_that_are_downloaded_need_not_be_there(compose, tmp_path):
    check(compose, "data=cifar10", f"data.root={tmp_path}/nowhere")


def test_number_of_classes_must_be_that_of_the_folders(compose, tmp_path, refusal):
    for name in _CLASSES:
        (tmp_path / name).mkdir(parents=True)
    message = refusal(lambda: check(compose, "data=imagenet", f"data.root={tmp_path}"))
    assert message.startswith("data.num_classes=1000, but the data have 2 classes; ")
    check(compose, "data=imagenet", f"data.root={tmp_path}", "data.num_classes=2")


def test_weights_to_start_from_must_be_there(compose, tmp_path, refusal):
    for missing in (f"{tmp_path}/net.pth", "net.pth", "weights/net.ckpt", "a/b/c"):
        message = refusal(lambda path=missing: check(compose, f"model.pretrained={path}"))
        assert message.startswith(f"model.pretrained={missing}: no such file or folder; give ")
    check(compose, "model.pretrained=nvidia/MambaVision-T-1K")
    check(compose, f"model.pretrained={tmp_path}")
    (tmp_path / "last.ckpt").touch()  # has weights of its own
    check(compose, "model.pretrained=net.pth", f"ckpt_path={tmp_path}/last.ckpt")


def test_teacher_must_be_there(compose, tmp_path, refusal):
    source = "loss.teacher.source"
    message = refusal(lambda: check(compose, "loss=distillation", f"{source}={tmp_path}/run"))
    assert message.startswith(f"{source}={tmp_path}/run: no such file or folder; give ")
    check(compose, "loss=distillation", f"{source}={tmp_path}")
    check(compose, "loss=distillation", f"{source}=timm/resnet18")


def test_images_must_be_there(tmp_path, refusal):
    photos = f"{tmp_path}/photos"
    message = refusal(lambda: check_files(OmegaConf.create(), {"images": photos}))
    assert message.startswith(f"images={photos}: no images there; give ")
    for images in (str(tmp_path), f"{photos}/*.png", None):
        check_files(OmegaConf.create(), {"images": images})


@pytest.mark.parametrize(
    ("data", "noun"), [("volume_folder", "volumes"), ("video_folder", "clips")]
)
@pytest.mark.parametrize("more", [(), ("data.num_classes=2",)])
def test_folders_of_volumes_and_clips_are_missed_as_such(tmp_path, refusal, data, noun, more):
    given = (f"data={data}", f"data.root={tmp_path}/no", "model=mambavision_nano_3d", *more)
    message = refusal(lambda: check_command("train", *given))
    assert f"no such folder; wanted a folder that holds train/<class>/<{noun}>" in message
