"""Every YAML in configs/ is found, composed, checked, and compared with what it calls."""

import inspect
import re
import tarfile
from pathlib import Path

import pytest
import torch
from composing import check
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.compose import without_hydra
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.check_command import check_job
from mambavision_lab.launch.command_line import parse_command
from mambavision_lab.launch.prepared import open_command
from mambavision_lab.runs.snapshot import write_snapshot

CONFIGS = configs_folder()
YAMLS = {path.relative_to(CONFIGS).as_posix(): path for path in sorted(CONFIGS.rglob("*.yaml"))}
ROOTS = [name.removesuffix(".yaml") for name in YAMLS if "/" not in name]
# Group and choice; a choice may lie deeper (model=nvidia/mambavision_t), but Hydra's own groups do too.
CHOICES = [
    (path.rpartition("/") if path.startswith("hydra/") else path.partition("/"))[::2]
    for path in (name.removesuffix(".yaml") for name in YAMLS)
    if "/" in path
]
MODELS = [name for name in YAMLS if name.startswith("model/")]
OF_VOLUMES = {
    *("data=synthetic_volumes", "data=synthetic_clips", "data=medmnist3d", "data=volume_folder"),
    *("data=video_folder", "augment=volumes", "augment=clips"),
}
RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_")


@pytest.fixture(autouse=True)
def _root(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMBAVISION_ROOT", str(tmp_path))
    yield
    HydraConfig.instance().cfg = None


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """Compose and check a config as a run does."""
    prepared = open_command(parse_command(config_name, [f"{config_name}.py", *overrides]))
    cfg = check_job(prepared, prepared.overrides)
    HydraConfig.instance().set_config(cfg)
    return without_hydra(cfg)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a checkpoint's name and the config of its run."""
    folder = tmp_path_factory.mktemp("trained")
    write_snapshot(compose("train", []), folder)
    (folder / "best.ckpt").touch()
    return folder


@pytest.fixture
def overrides_of(tmp_path, trained):
    """What must be given to compose a root config with a choice: paths to data and checkpoint."""

    def call(root: str, *overrides: str) -> list[str]:
        given = [*overrides]
        names = {"data=image_folder", "data=imagenet", "experiment=finetune_mambavision_t"}
        names |= {"data=volume_folder", "data=video_folder"}
        if names & {*overrides} or any("=imagenet_" in o for o in overrides):
            for name in ("cat", "dog"):
                (tmp_path / "train" / name).mkdir(parents=True)
            given += [f"data.root={tmp_path}", "data.num_classes=2"]
        if any(o.startswith("model=") and o.endswith("_3d") for o in overrides):
            given.append("data=synthetic_volumes")
        if {"augment=volumes", "augment=clips"} & {*overrides}:
            given.append("data=synthetic_volumes")
        if OF_VOLUMES & {*overrides} and root == "train":
            given.append("model.dims=3")
        of_masks = (
            "data=synthetic_segmentation",
            "data=mask_folder",
            "model=segmentation",
            "loss=dice",
        )
        if root == "train" and any(o.startswith(of_masks) for o in overrides):
            is_3d = any(o.endswith("_3d") for o in overrides)
            given.append(f"experiment=segmentation{'_3d' if is_3d else ''}")
        if "loss=unpruned" in overrides:
            given += ["experiment=prune", f"prune.source={trained}"]
        if any(o.startswith("data=mask_folder") for o in overrides):
            given.append(f"data.root={tmp_path}")
        if "data=hf" in overrides:
            given += ["data.root=somebody/pets", "data.num_classes=2"]
        if "data=webdataset" in overrides:
            tarfile.open(tmp_path / "train-0.tar", "w").close()
            given += [f"data.root={tmp_path}", "data.classes=[cat,dog]"]
        if "model=timm" in overrides:
            given.append("model.name=resnet18")
        if "loss=distillation" in overrides:
            given.append(f"loss.teacher.source={trained}")
        if {"multi_scale=random", "multi_scale=progressive"} & {*overrides}:
            given.append("multi_scale.sizes=[16,32]")
        if "experiment=finetune" in overrides:
            given.append(f"model.pretrained={trained}/best.ckpt")
        if "experiment=prune" in overrides:
            given.append(f"prune.source={trained}")
        if root not in ("train", "preview"):  # the others start from a trained network
            given += [f"ckpt_path={trained}/best.ckpt"]
            given += [f"images={tmp_path}"] if root == "predict" else []
        return given

    return call


def nodes(config, path=""):
    """All mappings in a config that name a target, with their paths."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield path, config
        for key, value in config.items():
            yield from nodes(value, f"{path}.{key}".lstrip("."))
    elif isinstance(config, list):
        for value in config:
            yield from nodes(value, f"{path}[]")


def assert_arguments_bind(cfg: DictConfig) -> None:
    """The arguments of each target are ones that it takes, and nothing that it needs is missing."""
    found = dict(nodes(OmegaConf.to_container(cfg, resolve=True)))
    assert found or "images" in cfg or "port" in cfg  # predict, demo and serve have settings only
    for path, node in found.items():
        arguments = {key: value for key, value in node.items() if key not in RESERVED}
        signature = inspect.signature(get_object(node["_target_"]))
        # The classifier receives its network from the task.
        is_partial = node.get("_partial_") or path == "classifier"
        try:
            (signature.bind_partial if is_partial else signature.bind)(**arguments)
        except TypeError as error:
            pytest.fail(f"{path}: {node['_target_']}: {error}")


def root_of(group: str) -> str:
    """The root config that has the group, train before the others."""
    for root in sorted(ROOTS, key=lambda name: name != "train"):
        defaults = OmegaConf.load(YAMLS[f"{root}.yaml"]).defaults
        names = {str(key) for entry in defaults if entry not in ("_self_",) for key in _keys(entry)}
        if group in names:
            return root
    raise AssertionError(f"configs/{group}/ is in the defaults of no root config")


def _keys(entry):
    return [key.removeprefix("optional ") for key in entry] if OmegaConf.is_dict(entry) else [entry]


@pytest.mark.parametrize("root", ROOTS)
def test_root_config_composes_and_binds(root, overrides_of):
    assert_arguments_bind(compose(root, overrides_of(root)))


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=[f"{g}={c}" for g, c in CHOICES])
def test_choice_composes_and_binds(group, choice, overrides_of):
    root = root_of(group.partition("/")[0])
    overrides = overrides_of(root, f"{group}={choice}")
    if group == "sweep":
        check(root, *overrides, "-m", "seed=1,2")
    assert_arguments_bind(compose(root, overrides))


def test_run_of_a_nested_choice_is_named_by_its_last_part(overrides_of):
    cfg = compose("train", overrides_of("train", "model=nvidia/mambavision_t"))
    assert cfg.name == "mambavision_t-synthetic"


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_opens_with_a_comment_that_says_what_it_is(name):
    lines = YAMLS[name].read_text().splitlines()
    if lines[0].startswith("# @package"):  # which Hydra wants on top
        lines = lines[1:]
    assert re.match(r"# \S+ \S+", lines[0]), lines[0]


@pytest.mark.parametrize("name", [name for name in YAMLS if name.startswith("experiment/")])
def test_experiment_opens_with_its_command(name):
    assert f"# python train.py experiment={Path(name).stem}" in YAMLS[name].read_text().splitlines()


TARGETS = {
    (name, node["_target_"])
    for name, path in YAMLS.items()
    for _, node in nodes(OmegaConf.to_container(OmegaConf.load(path)))
}


@pytest.mark.parametrize(("name", "target"), sorted(TARGETS))
def test_target_is_named_where_it_is_defined(name, target):
    found = get_object(target)
    if "._" in found.__module__:  # a private module; its package is the public home
        assert found.__module__.startswith(target.rpartition(".")[0] + "._")
    else:
        assert f"{found.__module__}.{found.__qualname__}" == target


def test_every_group_that_calls_something_is_found():
    found = {name.partition("/")[0] for name, _ in TARGETS}
    assert found >= {"augment", "callbacks", "data", "logger", "model", "optimizer", "trainer"}


def test_numbers_of_the_network_are_in_the_model_group_alone():
    own = {
        key
        for name in MODELS
        for key, value in OmegaConf.to_container(OmegaConf.load(YAMLS[name])).items()
        if key not in RESERVED and "${" not in str(value)
    }
    assert own >= {"embed_dim", "depth", "num_heads", "d_state"}
    own -= {"dim", "name"}  # also torch's word for an axis; runs and loggers have names too
    for name, path in YAMLS.items():
        if name.startswith(("model/", "experiment/")):
            continue
        written = re.findall(r"^ *(\w+):", path.read_text(), flags=re.MULTILINE)
        assert not own & set(written), name
    for path in sorted((CONFIGS.parent / "src").rglob("*.py")):
        assert not re.search(rf"\b({'|'.join(own)})=\d", path.read_text()), path


UNSIZED = ("model/timm.yaml", "model/segmentation.yaml")  # they name another network


@pytest.mark.parametrize("name", [name for name in MODELS if name not in UNSIZED])
def test_model_comment_states_its_number_of_parameters(name):
    comment = YAMLS[name].read_text().splitlines()[0]
    stated, unit = re.match(r"# ([\d.]+) M parameters( at 1000 classes)?", comment).groups()
    size = (
        {"image_size": 224, "num_classes": 1000} if unit else {"image_size": 32, "num_classes": 10}
    )
    with torch.device("meta"):
        config = OmegaConf.load(YAMLS[name])
        given = {"scan_backend": "auto", **size}
        net = instantiate(config, in_chans=3, **{k: v for k, v in given.items() if k in config})
    count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert abs(count - float(stated)) < 10 ** -len(stated.partition(".")[2])  # its last digit


@pytest.mark.parametrize("name", YAMLS)
def test_environment_is_read_in_paths_alone(name):
    assert name.startswith("paths/") or "oc.env" not in YAMLS[name].read_text()
