"""What each option means: the comments of a YAML, and the `Args:` of the class that it constructs.

Both are read as text, so that an error can tell them before torch is imported.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from mambavision_lab.config.signatures import definitions
from mambavision_lab.files import configs_folder

_SECTION = re.compile(r"(?:Args|Arguments|Attributes):$")
_ARGUMENT = re.compile(r"(\w+(?:, ?\w+)*) ?(?:\((.*?)\)(?=:))?: *(.*)")
_KEY = re.compile(r"( *)([\w-]+):(?: (.*))?$")
_COMMENT = re.compile(r"""(?:^|\s)#\s?((?:[^"'\n]|"[^"]*"|'[^']*'|'(?=\w)|(?<=\w)')*)$""")


class Argument(NamedTuple):
    """An argument as its docstring describes it; the type only where that names one."""

    text: str
    type: str | None = None


@cache
def read_arguments(target: str) -> dict[str, Argument]:
    """Read what the docstrings of a class, its bases and their constructors say of each argument.

    Raises:
        LookupError: There is no such module.
    """
    arguments: dict[str, Argument] = {}
    for node in definitions(target):
        inner = [item for item in node.body if getattr(item, "name", None) == "__init__"]
        for documented in (node, *inner):
            if isinstance(documented, ast.ClassDef | ast.FunctionDef):
                arguments = parse_arguments(ast.get_docstring(documented) or "") | arguments
    return arguments


def parse_arguments(docstring: str) -> dict[str, Argument]:
    """Read the arguments in a docstring of Google's style."""
    found: dict[str, list[str]] = {}
    types: dict[str, str | None] = {}
    names: list[str] = []
    inside, indent = False, 0
    for line in docstring.splitlines():
        depth = len(line) - len(line.lstrip())
        if _SECTION.match(line):
            inside, indent, names = True, 0, []
        elif inside and line.strip():
            indent = indent or depth
            if depth == 0:
                inside = False
            elif depth == indent and (match := _ARGUMENT.match(line.strip())):
                names = re.split(", ?", match[1])
                for name in names:
                    found[name], types[name] = [match[3]], match[2]
            else:
                for name in names:
                    found[name].append(line.strip())
        elif inside:
            names = []  # what follows an empty line is no longer the first paragraph
    return {
        name: Argument(" ".join(text).strip(), types[name])
        for name, text in found.items()
        if not text[0].startswith("As in ")  # what the base says
    }


@cache
def read_comments(path: Path) -> dict[str, str]:
    """Read the comments of a YAML by dotted key: those behind a key, and the lines right above it."""
    comments: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    above: list[str] = []
    is_header = True
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            if not is_header:
                above.append(line.lstrip()[1:].strip())
            continue
        is_header = is_header and not line.strip()
        key = _KEY.match(line)
        if key:
            depth = len(key[1])
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, key[2]))
            behind = _COMMENT.search(key[3] or "")
            text = behind[1] if behind else " ".join(above)
            if text:
                comments[".".join(name for _, name in stack)] = text.strip()
        above = []
        is_header = False
    return comments


def meaning_of(key: str, cfg: DictConfig | None) -> str | None:
    """Return what an option means, in one sentence; None where nobody says.

    Args:
        key: The option, such as "data.val_fraction".
        cfg: A composed config, whose nodes name the classes that they construct.
    """
    parent, _, name = key.rpartition(".")
    node = cfg
    for part in filter(None, parent.split(".")):
        node = node.get(part) if isinstance(node, DictConfig) else None
    target = node.get("_target_") if isinstance(node, DictConfig) and parent else None
    with suppress(LookupError):  # the target itself may be what is wrong
        if target and (argument := read_arguments(str(target)).get(name)):
            return _first_sentence(argument.text)
    return next((_first_sentence(text) for text in _comments_on(key)), None)


def _comments_on(key: str) -> Iterator[str]:
    """Yield the comments on an option in the files of its group, then in the root configs."""
    group, _, inner = key.partition(".")
    for path in sorted((configs_folder() / group).glob("*.yaml")):
        if inner in (comments := read_comments(path)):
            yield comments[inner]
    for path in sorted(configs_folder().glob("*.yaml"), key=lambda path: path.stem != "train"):
        if key in (comments := read_comments(path)):
            yield comments[key]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)])[.;](?= |$)", text)[0]
