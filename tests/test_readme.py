"""What README and docs/launching.md tell a reader to type: commands are checked, Python examples run."""

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = README + (ROOT / "docs" / "launching.md").read_text()
COMMANDS = re.findall(r"^python (\w+)\.py(.*?)(?=\s#|$)", PAGES, flags=re.MULTILINE)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
TOY = (
    "trainer=debug scheduler.warmup_epochs=0 data.num_train=33 data.num_val=20 data.num_test=20 "
    "model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2"
).split()


@pytest.fixture
def command(call, tmp_path, monkeypatch):
    """Call an entry point in a folder that has what the README speaks of."""
    monkeypatch.chdir(tmp_path)
    status, *output = call("train", *TOY)
    assert status == 0, output
    Path("RUN").symlink_to(Path("logs/latest").resolve())
    for name in ("cat", "dog"):
        Path("FOLDER", "train", name).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (40, 30), "teal").save(Path("FOLDER", "train", name, f"{k}.png"))
    Path("FOLDER", "labels.csv").write_text(
        "file,labels\n"
        + "".join(f"train/{n}/{k}.png,{n}\n" for n in ("cat", "dog") for k in range(3))
    )
    Path("photos").mkdir()
    for photo in ("photos/a.jpg", "cat.jpg"):
        Image.new("RGB", (40, 30), "teal").save(photo)
    return call


def test_readme_commands_are_right(command):
    scripts = {"train", "eval", "predict", "export", "analyze", "preview", "explain"}
    assert {script for script, _ in COMMANDS} == scripts
    assert len(COMMANDS) >= 20
    for script, line in COMMANDS:
        arguments = shlex.split(line)
        for folder in (a.partition("=")[2] for a in arguments if a.startswith("sweep.resume=")):
            before = [a for a in arguments if a != "-m" and not a.startswith("sweep.resume=")]
            Path(folder).mkdir(parents=True)
            Path(folder, "sweep.json").write_text(
                json.dumps({"task": "train", "overrides": before})
            )
        if "last.ckpt" in line:  # a run is resumed with its settings
            arguments = [*TOY, *arguments]
        status, out, err = command(script, "check=true", *arguments)
        assert status == 0, f"python {script}.py {line}\n{out}{err}"
        assert "--help" in arguments or "nothing wrong, nothing started" in out


def test_readme_examples_run(command):
    assert len(EXAMPLES) == README.count("```python") >= 3
    for example in EXAMPLES:
        exec(compile(example, "README.md", "exec"), {})
