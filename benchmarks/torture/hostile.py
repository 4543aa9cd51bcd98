"""Hostile files, as someone might publish them: whatever reads them, none takes effect.

Each would make a file, a trace, if its code ran, its path was followed, or its link was written through.
"""

import hashlib
import io
import pickle
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from benchmarks.torture.forked import Ended, run_command, run_forked, warm_up
from benchmarks.torture.outcome import Outcome, count_held
from PIL import Image

COUNT = SHORT = 1  # there is nothing random about them
_TINY = [
    *("trainer=debug", "scheduler.warmup_epochs=0", "data.batch_size=4", "data.num_workers=0"),
    *("data.num_train=20", "data.num_val=10", "data.num_test=10", "data.image_size=16"),
    "~callbacks.predictions",
]


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.trace, "w")


def run(*, seed: int, count: int) -> list[Outcome]:
    """Have each file read, count times."""
    warm_up()
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        made = Path(name, "made")
        ended = _train(made)
        if ended.status != 0:
            return [Outcome("a run to start from", 1, 0, ended.output[-300:])]
        (good,) = made.glob("train/*/*")
        for title, attack in _ATTACKS.items():
            results = []
            for number in range(count):
                place = Path(name, f"{title.replace(' ', '-')}-{number}")
                place.mkdir()
                trace = place / "trace"
                failure = attack(place, good, trace)
                results.append("it took effect" if trace.exists() else failure)
            outcomes.append(count_held(title, results))
    return outcomes


def _train(logs: Path, *arguments: str) -> Ended:
    return run_command("train", *_TINY, f"paths.log_dir={logs}", *arguments)


def _is_refused(ended: Ended) -> str | None:
    """Say what is wrong unless a command was refused in one line."""
    return ended.explain() if ended.status == 2 else f"not refused: {ended.output[-300:]}"


def _checkpoint(place: Path, good: Path, trace: Path) -> str | None:
    content = torch.load(good / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(content | {"more": _Trap(trace)}, place / "a.ckpt")
    return _is_refused(_train(place / "logs", f"ckpt_path={place}/a.ckpt"))


def _old_checkpoint(place: Path, good: Path, trace: Path) -> str | None:
    (place / "a.ckpt").write_bytes(pickle.dumps(_Trap(trace), protocol=2))
    return _is_refused(_train(place / "logs", f"ckpt_path={place}/a.ckpt"))


def _weights(place: Path, good: Path, trace: Path) -> str | None:
    torch.save({"model": _Trap(trace)}, place / "a.pth")
    return _is_refused(_train(place / "logs", f"model.pretrained={place}/a.pth"))


def _cifar_files(place: Path, trap: object) -> dict[str, bytes]:
    from torchvision.datasets import CIFAR10

    batch = {"data": np.zeros((20, 3072), np.uint8), "labels": [*range(10)] * 2, "more": trap}
    files = {name: pickle.dumps(batch) for name, _ in CIFAR10.train_list + CIFAR10.test_list}
    names = {"label_names": [f"thing{i}" for i in range(10)]}
    return files | {CIFAR10.meta["filename"]: pickle.dumps(names)}


def _read_cifar(root: Path, files: dict[str, bytes]) -> Ended:
    """Read CIFAR-10 with checksums that fit, as someone with a collision would have them."""

    def read() -> None:
        from torchvision.datasets import CIFAR10

        from mambavision_lab.data.cifar_files import read_cifar
        from mambavision_lab.errors import ConfigError, refuse

        def md5(name: str) -> str:
            return hashlib.md5(files[name]).hexdigest()

        for key in ("train_list", "test_list"):
            setattr(CIFAR10, key, [[name, md5(name)] for name, _ in getattr(CIFAR10, key)])
        CIFAR10.meta = CIFAR10.meta | {"md5": md5(CIFAR10.meta["filename"])}
        CIFAR10.url = "http://127.0.0.1:9/none"
        try:
            read_cifar(CIFAR10, root)
        except ConfigError as error:
            refuse(error)

    return run_forked(read, 60)


def _cifar_batch(place: Path, good: Path, trace: Path) -> str | None:
    files = _cifar_files(place, _Trap(trace))
    (place / "cifar-10-batches-py").mkdir()
    for name, content in files.items():
        (place / "cifar-10-batches-py" / name).write_bytes(content)
    return _is_refused(_read_cifar(place, files))


def _cifar_archive(place: Path, good: Path, trace: Path) -> str | None:
    files, root = _cifar_files(place, None), place / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name, content in {**files, "../../trace": b"x", f"/{trace}": b"x"}.items():
            _add(tar, f"cifar-10-batches-py/{name}" if name in files else name, content)
        for name in ("cifar-10-batches-py/link", "cifar-10-batches-py/link/trace"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, str(place)
            tar.addfile(link)
    ended = _read_cifar(root, files)
    if (root / "cifar-10-batches-py" / "link").is_symlink():
        return "a link was unpacked"
    return ended.explain()


def _shard(place: Path, good: Path, trace: Path) -> str | None:
    """A shard of links and of paths that lead out of it; its images are cached on disk."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 40)).save(picture, "png")
    with tarfile.open(place / "train-0.tar", "w") as tar:
        for i in range(12):
            _add(tar, f"../../x{i}.png", picture.getvalue())
            _add(tar, f"../../x{i}.cls", str(i % 2).encode())
        link = tarfile.TarInfo("y.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = {*place.parent.iterdir(), *place.iterdir()}
    data = ["data=webdataset", f"data.root={place}", "data.image_size=16", "data.batch_size=4"]
    given = [
        *_TINY[:2],
        _TINY[-1],
        *data,
        "data.num_workers=0",
        "data.cache=disk",
        f"data.cache_dir={place}/cache",
    ]
    ended = run_command("train", *given, "data.classes=[a,b]", f"paths.log_dir={place}/logs")
    expected = {place / "cache", place / "logs"}
    if strange := {*place.parent.iterdir(), *place.iterdir()} - before - expected:
        return f"wrote {strange}"
    return ended.explain()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _arrays(place: Path, good: Path, trace: Path) -> str | None:
    """MedMNIST's file with pickled objects for arrays."""
    content = np.array([_Trap(trace)], dtype=object)
    names = [
        f"{split}_{what}" for split in ("train", "val", "test") for what in ("images", "labels")
    ]
    np.savez(place / "pathmnist.npz", **dict.fromkeys(names, content), allow_pickle=True)
    given = ["data=medmnist", "data.subset=pathmnist", f"data.root={place}", *_TINY[:4]]
    return _is_refused(run_command("train", *given, f"paths.log_dir={place}/logs"))


def _report_arrays(place: Path, good: Path, trace: Path) -> str | None:
    """A run folder whose report would show pickled objects."""
    run = _copy(good, place)
    content = np.array([_Trap(trace)], dtype=object)
    np.savez(run / "predictions.npz", images=content, labels=content, allow_pickle=True)

    def write() -> None:
        from mambavision_lab.report.write import write_report

        write_report(run)

    ended = run_forked(write, 60)
    return None if ended.status in (0, 1, 2) else ended.explain()


def _edit_snapshot(place: Path, good: Path, name: str, text: str) -> Path:
    """Copy a run folder and add to a file of its snapshot, with checksums that fit."""
    run = _copy(good, place)
    folder = run / "snapshot"
    path = folder / name
    path.write_text(path.read_text() + text)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.yaml"))
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "checksums.sha256").write_text("".join(sums))
    return run


def _copy(good: Path, place: Path) -> Path:
    return Path(shutil.copytree(good, place / "run", symlinks=True))


def _yaml_tag(place: Path, good: Path, trace: Path) -> str | None:
    text = f"\nmore: !!python/object/apply:os.system ['touch {trace}']\n"
    run = _edit_snapshot(place, good, "optimizer/snapshot.yaml", text)
    return _is_refused(run_command("train", f"from_run={run}", f"paths.log_dir={place}/logs"))


def _target(place: Path, good: Path, trace: Path) -> str | None:
    text = yaml.safe_dump({"more": {"_target_": "os.system", "command": f"touch {trace}"}})
    run = _edit_snapshot(place, good, "callbacks/snapshot.yaml", f"\n{text}")
    return _is_refused(run_command("train", f"from_run={run}", f"paths.log_dir={place}/logs"))


def _own_module(place: Path, good: Path, trace: Path) -> str | None:
    """A module in the run folder itself, whose import would do it."""
    text = yaml.safe_dump({"more": {"_target_": "trap.Trap"}})
    run = _edit_snapshot(place, good, "callbacks/snapshot.yaml", f"\n{text}")
    (run / "trap.py").write_text(f"open({str(trace)!r}, 'w')\nclass Trap: pass\n")
    return _is_refused(run_command("train", f"from_run={run}", f"paths.log_dir={place}/logs"))


def _evaluated_target(place: Path, good: Path, trace: Path) -> str | None:
    text = yaml.safe_dump(
        {"more": {"_target_": "builtins.exec", "_args_": [f"open('{trace}', 'w')"]}}
    )
    run = _edit_snapshot(place, good, "data/snapshot.yaml", f"\n{text}")
    return _is_refused(run_command("eval", f"from_run={run}", f"paths.log_dir={place}/logs"))


def _environment(place: Path, good: Path, trace: Path) -> str | None:
    """A snapshot that would copy a variable of the environment into the run folder."""
    run = _edit_snapshot(place, good, "optimizer/snapshot.yaml", "\nmore: ${oc.env:HOME}\n")
    return _is_refused(run_command("train", f"from_run={run}", f"paths.log_dir={place}/logs"))


def _linked_folder(place: Path, good: Path, trace: Path) -> str | None:
    """A run folder whose log is a link: to resume it would write there."""
    run = _copy(good, place)
    (run / "train.log").unlink(missing_ok=True)
    (run / "train.log").symlink_to(trace)
    given = [
        f"ckpt_path={run}/checkpoints/last.ckpt",
        f"hydra.run.dir={run}",
        "trainer.max_epochs=2",
    ]
    return _is_refused(_train(place / "logs", *given))


_ATTACKS: dict[str, Callable[[Path, Path, Path], str | None]] = {
    "pickle in a checkpoint": _checkpoint,
    "pickle as a checkpoint": _old_checkpoint,
    "pickle in weights": _weights,
    "pickle in a CIFAR batch": _cifar_batch,
    "archive with paths and links out of it": _cifar_archive,
    "shard with paths and links out of it": _shard,
    "pickle in arrays": _arrays,
    "pickle in the arrays of a report": _report_arrays,
    "YAML tag": _yaml_tag,
    "_target_ of another library": _target,
    "_target_ in the run folder": _own_module,
    "_target_ that evaluates text": _evaluated_target,
    "variable of the environment": _environment,
    "run folder with a link out of it": _linked_folder,
}
