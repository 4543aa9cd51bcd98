"""Hooks of MkDocs: generated pages, links to files of the repository, the check of the built site."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_site
import config_keys
import config_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from mambavision_lab.config.help import help_text
from mambavision_lab.config.schema import SCHEMAS

ROOT = Path(__file__).parents[2]
RESULTS = "results.md"
PICTURES = ("benchmarks/long_images.png", "benchmarks/speedrun.png")  # that lie outside docs/
_LINK = re.compile(r"(\]\()((?:\.\./)+)([\w./-]+)((?:#[\w-]+)?\))")
_MODULES = {
    "init": "mambavision_lab.init",
    "report": "mambavision_lab.report",
    "reproduce": "mambavision_lab.runs.reproduce",
    "models": "mambavision_lab.models",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; refuse a config key without a meaning or a type."""
    if missing := config_keys.incomplete():
        raise PluginError("config keys without a meaning:\n  " + "\n  ".join(missing))
    pages = {
        f"reference/configs/{group}.md": config_pages.group_page(group)
        for group in config_keys.GROUPS
    }
    pages["reference/configs/index.md"] = config_pages.commands_page()
    pages["reference/configs/experiment.md"] = config_pages.experiments_page()
    pages["reference/commands.md"] = _commands_page()
    pages[RESULTS] = _results_page()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for path in map(Path, PICTURES):
        files.append(File.generated(config, path.name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Let links that leave docs/ lead to the results page, or to the file in the repository."""
    depth = page.file.src_uri.count("/")

    def replace(match: re.Match[str]) -> str:
        before, up, path, after = match.groups()
        if up.count("../") <= depth:
            return match[0]  # another page
        if path == "benchmarks/README.md":
            return f"{before}{'../' * depth}{RESULTS}{after}"
        if path in PICTURES:
            return f"{before}{'../' * depth}{Path(path).name}{after}"
        if not (ROOT / path).exists():
            raise PluginError(f"{page.file.src_uri}: {up}{path}: no such file")
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{before}{config.extra['repository']}/{kind}/main/{path.rstrip('/')}{after}"

    return _LINK.sub(replace, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Check the links of the built site, and that it asks no other host for anything."""
    Path(config.site_dir, "404.html").unlink(
        missing_ok=True
    )  # its links start at the root of a host
    if problems := check_site.check(Path(config.site_dir)):
        raise PluginError("links of the site:\n  " + "\n  ".join(problems))


def _commands_page() -> str:
    """Write the page of the command lines: what `--help` prints."""
    lines = [
        "# Command lines",
        "",
        "What `--help` prints. In a checkout a command is `python train.py`; an installation has",
        "`mambavision-train`, `mambavision-eval` and so on. Flags are Hydra's: `-m` runs a sweep,",
        "`--cfg job` shows the config, `--config-dir` adds a folder of configs.",
        "",
    ]
    for task in SCHEMAS:
        lines += [f"## {task}", "", "```text", help_text(task), "```", ""]
    for name, module in _MODULES.items():
        shown = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
        )
        lines += [f"## {name}", "", "```text", shown.stdout, "```", ""]
    return "\n".join(lines)


def _results_page() -> str:
    """Take benchmarks/README.md as the results page, its links as they are seen from docs/."""
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    return text.replace("](../docs/", "](")
