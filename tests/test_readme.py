"""What README and the pages of docs/ tell a reader to type: commands are checked, Python examples run."""

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CARD = "".join(path.read_text() for path in (ROOT / "README.md", DOCS / "card.md"))
FOLDERS = ("tutorials", "how_to", "understanding", "coming_from")
PAGES = "".join(path.read_text() for folder in FOLDERS for path in (DOCS / folder).glob("*.md"))
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", CARD, flags=re.MULTILINE | re.DOTALL)


def commands(text):
    """List the commands of a text once each, as (script, arguments)."""
    found = re.findall(r"^python (\w+)\.py(.*?)(?=\s#|$)", text, flags=re.MULTILINE)
    return sorted({(script, line.strip()) for script, line in found})


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
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
    Path("logs/latest/exports").mkdir()
    Path("logs/latest/exports/model.onnx").touch()
    photos = [f"photos/{name}/{k}.jpg" for name in ("cat", "dog") for k in range(8)]
    for photo in (*photos, "photos/a.jpg", "cat.jpg", "one.png"):
        Image.new("RGB", (40, 30), "teal").save(photo)
    return call


def check(command, script, line):
    """Check a command with check=true, in a folder that has what it names."""
    arguments = shlex.split(line)
    for folder in (a.partition("=")[2] for a in arguments if a.startswith("sweep.resume=")):
        before = [a for a in arguments if a != "-m" and not a.startswith("sweep.resume=")]
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "sweep.json").write_text(json.dumps({"task": "train", "overrides": before}))
    if "last.ckpt" in line:  # a run is resumed with its settings
        arguments = [*TOY, *arguments]
    status, out, err = command(script, "check=true", *arguments)
    assert status == 0, f"python {script}.py {line}\n{out}{err}"
    assert {"--help", "--cfg"} & {*arguments} or "nothing wrong, nothing started" in out


def test_commands_of_readme_and_card_are_right(command):
    found = commands(CARD + (DOCS / "launching.md").read_text())
    assert {"train", "eval", "predict", "export", "analyze", "preview"} <= {s for s, _ in found}
    assert len(found) >= 20
    for script, line in found:
        check(command, script, line)


@pytest.mark.slow
def test_commands_of_the_pages_are_right(command):
    found = commands(PAGES)
    assert len(found) >= 60
    for script, line in found:
        check(command, script, line)


def test_examples_of_readme_and_card_run(command):
    assert len(EXAMPLES) == CARD.count("```python") >= 3
    for example in EXAMPLES:
        exec(compile(example, "README.md", "exec"), {})
