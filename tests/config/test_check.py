import pytest
from omegaconf import OmegaConf

from mambavision_lab.config.check import check_config, check_nodes

REFUSED, FINE = False, True
# Annotation, value, whether it fits.
VALUES = [
    ("int", 3, FINE),
    ("int", -1, FINE),
    ("int", 3.0, REFUSED),
    ("int", "3", REFUSED),
    ("int", True, REFUSED),
    ("int", None, REFUSED),
    ("float", 0.5, FINE),
    ("float", 1, FINE),
    ("float", False, REFUSED),
    ("float", "1e-3 ", REFUSED),
    ("bool", True, FINE),
    ("bool", 1, REFUSED),
    ("bool", "yes", REFUSED),
    ("str", "yes", FINE),
    ("str", 1, REFUSED),
    ("str", [], REFUSED),
    ("int | None", None, FINE),
    ("int | None", "abc", REFUSED),
    ("Optional[int]", None, FINE),
    ("Optional[int]", 2.5, REFUSED),
    ("Union[int, str, None]", "auto", FINE),
    ("Union[int, str, None]", 1.5, REFUSED),
    ("Optional[Union[int, str]]", {"a": 1}, REFUSED),
    ("float | Tensor", "fast", REFUSED),  # no value in a config is a tensor
    ("float | Tensor", 1, FINE),
    ("list[int]", "abc", REFUSED),
    ("list[int]", [1, 2], FINE),
    ("Sequence[float] | None", 3, REFUSED),
    ("Optional[Union[Profiler, str]]", {"a": 1}, REFUSED),  # no node
    ("Optional[timedelta]", None, FINE),
    ("Optional[timedelta]", "00:00:30:00", FINE),
    ("Optional[timedelta]", 3, REFUSED),
    ("Literal['a', 'b']", "c", FINE),
    (None, "abc", FINE),
]


def check(node, **others):
    check_config(OmegaConf.create({"model": node, "data": {}, **others}))


@pytest.fixture
def parts(make_module):
    make_module(
        "parts.py",
        "def small(width: int = 1, height: int = 1): ...\ndef open_(width: int = 1, **rest): ...\n",
    )


@pytest.mark.parametrize(("annotation", "value", "fits"), VALUES)
def test_check_compares_values_with_annotations(make_module, refusal, annotation, value, fits):
    written = f": {annotation}" if annotation else ""
    make_module("typed.py", f"class Part:\n    def __init__(self, x{written}): ...\n")
    node = {"_target_": "typed.Part", "x": value}
    if fits:
        check(node)
    else:
        message = refusal(lambda: check(node))
        assert message.startswith(f"model.x={value}: wanted ")
        assert type(value).__name__ in message


def test_check_refuses_text_that_is_no_duration(make_module, refusal):
    make_module("typed.py", "def part(x: Optional[timedelta] = None): ...\n")
    message = refusal(lambda: check({"_target_": "typed.part", "x": "often"}))
    assert message.startswith("model.x=often: wanted a duration, DD:HH:MM:SS")


def test_check_says_what_was_wanted(make_module, refusal):
    make_module("typed.py", "def part(x: Optional[Union[int, str]] = None): ...\n")
    message = refusal(lambda: check({"_target_": "typed.part", "x": 1.5}))
    assert message == "model.x=1.5: wanted int or str or None, got float 1.5"


def test_check_suggests_the_nearest_option_or_lists_them(parts, refusal):
    message = refusal(lambda: check({"_target_": "parts.small", "widht": 1}))
    assert message == "model.widht: small has no option 'widht'; did you mean 'width'?"
    message = refusal(lambda: check({"_target_": "parts.small", "colour": 1}))
    assert message == "model.colour: small has no option 'colour'; it has height, width"


def test_check_lets_open_signatures_and_hydras_own_keys_pass(parts):
    check({"_target_": "parts.open_", "colour": 1, "_partial_": True, "_convert_": "all"})


def test_check_refuses_hydras_own_keys_of_another_type(parts, refusal):
    message = refusal(lambda: check({"_target_": "parts.open_", "_partial_": 1}))
    assert message == "model._partial_=1: wanted bool, got int 1"


@pytest.mark.parametrize(
    "target",
    ["parts.smal", "prts.small", "small", None, 3],
)
def test_check_refuses_a_target_that_is_not_there(parts, refusal, target):
    message = refusal(lambda: check({"_target_": target}))
    assert message.startswith(f"model._target_={target}: ")


@pytest.mark.parametrize(
    ("others", "path"),
    [
        ({"callbacks": {"a": {"_target_": "parts.small", "x": 1}}}, "callbacks.a.x"),
        (
            {"list": [1, {"_target_": "parts.small"}, {"_target_": "parts.small", "x": 1}]},
            "list[2].x",
        ),
        ({"list": [[{"_target_": "parts.small", "x": 1}]]}, "list[0][0].x"),
        ({"a": {"_target_": "parts.small", "width": 1, "height": {"x": 1}}}, "a.height"),
        ({"a": {"_target_": "parts.open_", "b": {"_target_": "parts.small", "x": 1}}}, "a.b.x"),
    ],
)
def test_check_reaches_nested_nodes(parts, refusal, others, path):
    assert refusal(lambda: check({"size": 3}, **others)).startswith(path)


def test_check_resolves_interpolations_first(parts, refusal):
    check({"_target_": "parts.small", "width": "${size}"}, size=3)
    message = refusal(lambda: check({"_target_": "parts.small", "width": "${size}"}, size="wide"))
    assert message.startswith("model.width=wide: wanted int")


def test_check_refuses_a_checkpoint_that_is_not_there(tmp_path, refusal):
    path = tmp_path / "last.ckpt"
    assert f"ckpt_path={path}" in refusal(lambda: check({}, ckpt_path=str(path)))
    path.touch()
    check({}, ckpt_path=str(path))
    check({}, ckpt_path=None)


def test_check_refuses_fewer_outputs_than_classes(refusal):
    model, data = {"num_classes": 5}, {"num_classes": 10}
    message = refusal(lambda: check_config(OmegaConf.create({"model": model, "data": data})))
    assert "model.num_classes=5" in message
    assert "10 classes" in message
    check_config(OmegaConf.create({"model": data, "data": model}))


def test_what_is_resumed_of_a_checkpoint_is_checked(tmp_path, refusal):
    assert refusal(lambda: check({}, resume="all")) == "resume=all: wanted exact or weights"
    assert "ckpt_path=FILE" in refusal(lambda: check({}, resume="weights"))
    path = tmp_path / "best.ckpt"
    path.touch()
    check({}, resume="weights", ckpt_path=str(path))


@pytest.mark.parametrize(
    ("monitor", "mode", "right"),
    [
        ("val/loss", "max", "min"),
        ("val/acc1", "min", "max"),
        ("val/acc1", None, "max"),  # Lightning's default is min
        ("val/loss", None, None),
        ("val/loss", "min", None),
        ("val/acc5", "max", None),
        ("train/grad_norm", "max", None),
    ],
)
def test_mode_that_contradicts_its_metric_is_refused(refusal, monitor, mode, right):
    node = {"_target_": "lightning.pytorch.callbacks.early_stopping.EarlyStopping"}
    node |= {"monitor": monitor} | ({"mode": mode} if mode else {})
    if right is None:
        check_nodes(node, "callbacks.early_stopping")
        return
    message = refusal(lambda: check_nodes(node, "callbacks.early_stopping"))
    assert message.endswith(f"give callbacks.early_stopping.mode={right}")


def test_option_that_has_moved_is_named(refusal):
    target = "mambavision_lab.lit.callbacks.best_checkpoint.BestCheckpoint"
    node = {"_target_": target, "every_n_train_steps": 2}
    message = refusal(lambda: check_nodes(node, "callbacks.checkpoint"))
    assert message.endswith("; use callbacks.newest.every_n_steps")
