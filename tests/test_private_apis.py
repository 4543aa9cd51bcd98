"""docs/private_apis.md lists each private name of a library that we use, and what it lists exists."""

import ast
import contextlib
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
ROWS = re.findall(
    r"^\| `([\w.]+)` \| ([^|]+) \|", (ROOT / "docs/private_apis.md").read_text(), re.MULTILINE
)
LISTED = {(name, path) for name, paths in ROWS for path in re.findall(r"`([^`]+)`", paths)}
PRIVATE = r"_(?!_)\w*(?<!_)"
IN_TEXT = re.compile(rf"\b(?:hydra|torch|numba|lightning|timm|optuna)(?:\.\w+)*?\.{PRIVATE}\b")
DOCUMENTED = {"_asdict", "_fields", "_replace", "_exit"}  # of namedtuple and os


def is_private(name: str) -> bool:
    return re.fullmatch(PRIVATE, name) is not None and name not in DOCUMENTED


def own_names(tree: ast.AST) -> set[str]:
    """Private names that our own code defines: functions, classes, variables and attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def private_uses(tree: ast.AST, own: set[str]) -> set[str]:
    """Private names of others in a file, by full path where the file imports it from somewhere."""
    origins, uses = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins |= {a.asname or a.name.split(".")[0]: a.asname and a.name for a in node.names}
            uses |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            origins |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            uses |= {f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            uses |= set(IN_TEXT.findall(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            uses |= {a.value for a in node.args[1:2] if isinstance(a, ast.Constant)} - own
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            root, _, rest = ast.unparse(node.value).partition(".")
            if root in origins:
                uses.add(".".join(filter(None, (origins[root] or root, rest, node.attr))))
            elif node.attr not in own:
                uses.add(node.attr)
    return {
        use
        for use in uses
        if not use.startswith(("mambavision_lab", "__future__"))
        and any(map(is_private, use.split(".")))
    }


def is_listed(use: str, path: str) -> bool:
    """Whether the page lists a name for a file: the same name, what it is part of, or what it holds."""
    return any(
        path == where and (f"{name}.".startswith(f"{use}.") or f"{use}.".startswith(f"{name}."))
        for name, where in LISTED
    ) or ("." not in use and any(path == at and use in name.split(".") for name, at in LISTED))


@functools.cache
def found_uses() -> set[tuple[str, str]]:
    trees = {path: ast.parse(path.read_text()) for path in SOURCES}
    own = set().union(*map(own_names, trees.values()))
    uses = {path: private_uses(tree, own) for path, tree in trees.items()}
    uses |= {path: set(IN_TEXT.findall(path.read_text())) for path in CONFIGS}
    return {(use, path.relative_to(ROOT).as_posix()) for path in uses for use in uses[path]}


def test_page_lists_every_private_name():
    missing = sorted(f"{path}: {use}" for use, path in found_uses() if not is_listed(use, path))
    assert not missing, (
        "a row for docs/private_apis.md, or a public name in its stead:\n" + "\n".join(missing)
    )


def test_page_lists_only_what_is_used():
    uses = found_uses()
    for name, path in sorted(LISTED):
        near = {use for use, where in uses if where == path}
        parts = [part for part in name.split(".") if is_private(part)]
        assert any(part in use.split(".") for part in parts for use in near), (
            f"{name}: not in {path}"
        )


@pytest.mark.parametrize("name", sorted({name for name, _ in ROWS}))
def test_private_name_exists(name):
    parts = name.split(".")
    modules = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    pytest.importorskip(parts[0])
    thing = None
    for module, part in zip(modules, parts, strict=True):
        with contextlib.suppress(ModuleNotFoundError):
            thing = importlib.import_module(module)
            continue
        if inspect.isclass(thing) and not hasattr(thing, part):
            assert f"self.{part} = " in inspect.getsource(thing)  # set when an instance is made
            return
        thing = getattr(thing, part)
