"""Check that the files that a config names are there: of its data set, images, weights to start from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.model_file import check_model_file
from mambavision_lab.config.schema import task_of
from mambavision_lab.data.class_folders import count_classes
from mambavision_lab.data.find_shards import count_shard_classes
from mambavision_lab.data.hf_splits import count_hf_classes
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import is_hub_id

_FOLDERS = (count_classes, ("root", "labels_file", "classes"))
# Data modules that download nothing by themselves -> what counts their classes, and its arguments.
_COUNTS: dict[str, tuple[Callable[..., int], tuple[str, ...]]] = {
    "mambavision_lab.data.image_folder.ImageFolderDataModule": _FOLDERS,
    "mambavision_lab.data.imagenet.ImageNetDataModule": _FOLDERS,
    "mambavision_lab.data.volume_folder.VolumeFolderDataModule": _FOLDERS,
    "mambavision_lab.data.video_folder.VideoFolderDataModule": _FOLDERS,
    "mambavision_lab.data.webdataset.WebDatasetDataModule": (
        count_shard_classes,
        ("root", "train_shards", "label_key", "classes", "cache_dir"),
    ),
    "mambavision_lab.data.hf.HFDataModule": (
        count_hf_classes,
        ("root", "subset", "label_column", "classes", "streaming"),
    ),
}
_NOUNS = {  # of what is no image
    "mambavision_lab.data.volume_folder.VolumeFolderDataModule": "volumes",
    "mambavision_lab.data.video_folder.VideoFolderDataModule": "clips",
}
_WITH_MASKS = "mambavision_lab.data.mask_folder."  # whose number of classes is given
_TEACHER = "mambavision_lab.models.teacher.load_teacher"


def check_files(cfg: DictConfig, resolved: dict[str, Any]) -> None:
    """Check the files of a config, as composed and as plain values.

    Raises:
        ConfigError: Some are not there, or the data have another number of classes than is given.
    """
    _check_data(cfg, resolved.get("data") or {})
    if resolved.get("model_file") is not None:
        check_model_file(Path(resolved["model_file"]), "model_file")
    images = resolved.get("images") or "."
    if not set(images) & set("*?[") and not Path(images).exists():  # else it is a glob
        raise ConfigError(f"images={images}: no images there; give a file, a folder or a glob")
    pretrained = (resolved.get("model") or {}).get("pretrained")
    is_replaced = resolved.get("ckpt_path") is not None  # by the checkpoint's weights
    if isinstance(pretrained, str) and not (
        is_replaced or Path(pretrained).exists() or is_hub_id(pretrained)
    ):
        raise ConfigError(
            f"model.pretrained={pretrained}: no such file or folder; give a file of weights, a folder with "
            "one, or a hub id such as nvidia/MambaVision-T-1K"
        )
    teacher = (resolved.get("loss") or {}).get("teacher") or {}
    source = str(teacher.get("source"))
    if teacher.get("_target_") == _TEACHER and not (
        source.startswith("timm/") or Path(source).exists()
    ):
        raise ConfigError(
            f"loss.teacher.source={source}: no such file or folder; give a run's folder, a checkpoint, or "
            "timm/NAME"
        )


def _check_data(cfg: DictConfig, node: dict[str, Any]) -> None:
    """Count the classes where their number is given, as ImageNet's is; else that has been done."""
    task, target = task_of(cfg), node.get("_target_")
    if task not in ("train", "eval", "preview"):
        return  # the others may use the network without its data
    if str(target).startswith(_WITH_MASKS) and not Path(node["root"]).is_dir():
        raise ConfigError(
            f"data.root={node['root']}: there is no such folder; wanted one with images/ and masks/"
        )
    if target not in _COUNTS or OmegaConf.is_interpolation(cfg.data, "num_classes"):
        return
    if count_hf_classes is _COUNTS[target][0] and is_hub_id(str(node["root"])):
        return  # to look would be to download it
    count, names = _COUNTS[target]
    options: dict[str, Any] = {}
    if count is count_classes:
        options = {"noun": _NOUNS.get(str(target), "images"), "is_training": task != "eval"}
    found, given = count(*map(node.get, names), **options), node["num_classes"]
    if found != given and task != "eval":  # which names the classes that the network does not know
        raise ConfigError(
            f"data.num_classes={given}, but the data have {found} classes; leave data.num_classes as it is"
        )
