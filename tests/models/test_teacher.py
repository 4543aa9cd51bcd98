import json
from pathlib import Path

import pytest
import torch
from toys import TOY_OPTIONS

from mambavision_lab.models.saved import write_weights
from mambavision_lab.models.teacher import load_teacher

IMAGES = {"num_classes": 3, "in_chans": 2, "image_size": 16, "mean": [0.5], "std": [0.2, 0.2]}


@pytest.fixture
def saved(make_net, tmp_path):
    """A toy network and the folder that it was saved in."""
    net = make_net()
    target = "mambavision_lab.models.plain.PlainMambaVision"
    description = {
        "architecture": {"_target_": target, **TOY_OPTIONS},
        "preprocessing": {"mean": [0.5], "std": [0.2]},
        "class_names": ["ant", "bee", "cat"],
    }
    write_weights(net, description, tmp_path)
    return net.eval(), str(tmp_path)


def test_teacher_is_the_saved_network(saved):
    net, source = saved
    images = torch.randn(2, 2, 16, 16)
    teacher = load_teacher(source=source, **IMAGES)
    torch.testing.assert_close(teacher(images), net(images))
    assert teacher.class_names == ["ant", "bee", "cat"]


def test_teacher_of_a_run_in_bfloat16_takes_images_in_float32(saved):
    net, source = saved
    description = json.loads((Path(source) / "config.json").read_text())
    write_weights(net.bfloat16(), description, Path(source))
    teacher = load_teacher(source=source, **IMAGES)
    assert teacher(torch.randn(2, 2, 16, 16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": [0.4]}, "was trained with mean=[0.5, 0.5], the student's images have [0.4, 0.4]"),
        ({"std": [0.3]}, "was trained with std=[0.2, 0.2]"),
        ({"num_classes": 4}, "knows 3 classes, the data have 4"),
        ({"in_chans": 3}, "does not take images of 3 x 16 x 16"),
        ({"source": "gone"}, "loss.teacher.source=gone: no such file or folder"),
        ({"source": "timm/gone"}, "loss.teacher.source=timm/gone: name=gone: timm has no such"),
    ],
)
def test_teacher_is_refused_that_does_not_fit_the_student(changed, message, saved, refusal):
    given = {"source": saved[1], **IMAGES, **changed}
    if changed == {"in_chans": 3}:
        given |= {"std": [0.2]}
    assert message in refusal(lambda: load_teacher(**given))


def test_teacher_of_several_labels_is_refused(saved, refusal):
    config = Path(saved[1], "config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_multilabel": True}))
    assert "several labels" in refusal(lambda: load_teacher(source=saved[1], **IMAGES))
