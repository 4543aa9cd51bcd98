"""The wheel works outside a checkout: commands, configs from the package, logs in the working folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "train",
    "eval",
    "predict",
    "export",
    "analyze",
    "preview",
    "explain",
    "demo",
    "serve",
    "report",
    "reproduce",
    "models",
    "init",
)
TOY = "trainer=debug model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2".split()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Call an installed command in an empty folder, in an environment that has our packages but not us."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    site, elsewhere = folder / "site", folder / "elsewhere"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    elsewhere.mkdir()
    given = {k: v for k, v in os.environ.items() if not k.startswith("MAMBAVISION_")}

    def call(command: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(site / "bin" / f"mambavision-{command}"), *arguments],
            cwd=elsewhere,
            env=given | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )

    return call, elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_installed_and_has_help(installed, command):
    call, _ = installed
    done = call(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


@pytest.mark.slow
def test_a_run_and_what_follows_work_from_the_wheel(installed):
    call, folder = installed
    done = call("train", *TOY, "scheduler.warmup_epochs=0")
    assert done.returncode == 0, done.stderr
    assert (folder / "logs" / "latest" / "report.html").is_file()
    for command, arguments in (
        ("eval", ["trainer=cpu"]),
        ("export", ["export=safetensors", "output=saved"]),
        ("analyze", ["image_sizes=[32]", "batch_sizes=[1]"]),
    ):
        done = call(command, "from_run=logs/latest", *arguments)
        assert done.returncode == 0, done.stderr
    assert (folder / "saved" / "model.safetensors").is_file()
    done = call("reproduce", "logs/latest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert call("train", "trainer.devcies=2").returncode == 2
    assert {path.name for path in folder.iterdir()} == {"logs", "saved"}
