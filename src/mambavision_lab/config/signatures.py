"""Read a constructor's signature from its source, without importing it.

Importing torch and Lightning to learn that an option is mistyped takes seconds; parsing one file
takes milliseconds.
"""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Signature:
    """Parameters that may be given by keyword, each with its annotation as source text.

    Open when `**kwargs` takes any; where they are passed to the base, its parameters count.
    """

    owner: str
    parameters: dict[str, str | None]
    is_open: bool


def read_signature(target: str) -> Signature | None:
    """Read the signature of a dotted class or function name; None where there is no Python source.

    Raises:
        LookupError: The module's source has no such name.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise LookupError("wanted the full path of a class or function, MODULE.NAME")
    path = find_source(module)
    if path is None:
        return None
    return _signature_in(path, module, name)


def read_keys(target: str) -> list[str]:
    """Read the keys of a dictionary that a module of ours defines, by its dotted name."""
    module, _, name = target.rpartition(".")
    path = find_source(module)
    assert path is not None
    for node in _parse(path).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.Dict(keys=keys)) if (
                found == name
            ):
                return [str(ast.literal_eval(key)) for key in keys if key is not None]
    raise LookupError(f"module {module!r} has no dictionary {name!r}")


def find_class(target: str) -> str | None:
    """Return the full name of a class where its own module defines it; None where it is no class.

    Raises:
        LookupError: There is no such module.
    """
    module, _, name = target.rpartition(".")
    path = find_source(module)
    if path is None:
        return None
    tree = _parse(path)
    if any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        return target
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported = _import_of(tree, package, name)
    return find_class(imported) if imported and imported != target else None


def definitions(target: str) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Yield the source of a class or function by its dotted name; of a class also that of its bases.

    Nothing where there is no Python source.

    Raises:
        LookupError: There is no such module.
    """
    module, _, name = target.rpartition(".")
    path = find_source(module)
    if path is None:
        return
    tree = _parse(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            yield node
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            for base in (base.id for base in bases if isinstance(base, ast.Name)):
                yield from definitions(_import_of(tree, package, base) or f"{module}.{base}")
            return
    imported = _import_of(tree, package, name)
    if imported is not None:
        yield from definitions(imported)


def find_source(module: str) -> Path | None:
    """Return the file of a module; only its top-level package is looked up, nothing is imported.

    None where it has no Python source.

    Raises:
        LookupError: There is no such module.
    """
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError:  # __main__ of a script
        spec = None
    if spec is None:
        raise LookupError(f"there is no package {top!r}; install it or correct the name")
    if not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for location in spec.submodule_search_locations:
        base = Path(location, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    if any(Path(location, *rest[:-1]).is_dir() for location in spec.submodule_search_locations):
        folder_has_binary = any(
            any(Path(location, *rest[:-1]).glob(f"{rest[-1]}.*")) if rest else False
            for location in spec.submodule_search_locations
        )
        if folder_has_binary:
            return None
    raise LookupError(f"there is no module {module!r}")


@cache
def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise LookupError(
            f"{path}, line {error.lineno}: {error.msg}; correct its Python"
        ) from error


def _signature_in(path: Path, module: str, name: str) -> Signature | None:
    tree = _parse(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _from_arguments(name, node.args, skip_first=False)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(tree, package, node)
    imported = _import_of(tree, package, name)
    if imported is not None:
        return read_signature(imported)
    if _may_define(tree, name):
        return None
    raise LookupError(f"module {module!r} has no {name!r}")


def _may_define(tree: ast.Module, name: str) -> bool:
    """Return whether a module may define a name in a way that only running it would show."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return True
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                return True
            case ast.FunctionDef(name="__getattr__"):
                return True
    return False


def _of_class(tree: ast.Module, package: str, node: ast.ClassDef) -> Signature | None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            own = _from_arguments(node.name, item.args, skip_first=True)
            given = _given_to_base(item)
            base = _of_bases(tree, package, node) if given is not None else None
            if given is None or base is None:
                return own
            rest = {name: kind for name, kind in base.parameters.items() if name not in given}
            return Signature(node.name, rest | own.parameters, base.is_open)
    return _of_bases(tree, package, node)


def _given_to_base(constructor: ast.FunctionDef) -> set[str] | None:
    """Return what a constructor itself gives to its base, beside all its `**kwargs`.

    None where it does not hand these on.
    """
    for call in ast.walk(constructor):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            names = {keyword.arg for keyword in call.keywords}
            return {name for name in names if name} if None in names else None
    return None


def _of_bases(tree: ast.Module, package: str, node: ast.ClassDef) -> Signature | None:
    """Return the signature of the first base that has a constructor."""
    for base in node.bases:
        if isinstance(base, ast.Name):
            inherited = _signature_of_base(tree, package, base.id)
            if inherited is not None:
                return Signature(node.name, inherited.parameters, inherited.is_open)
    plain = all(isinstance(b, ast.Name) and b.id in ("object", "Protocol") for b in node.bases)
    return Signature(node.name, {}, is_open=False) if plain else None


def _signature_of_base(tree: ast.Module, package: str, name: str) -> Signature | None:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(tree, package, node)
    imported = _import_of(tree, package, name)
    return read_signature(imported) if imported else None


def _import_of(tree: ast.Module, package: str, name: str) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{_absolute(node, package)}.{alias.name}"
    return None


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _from_arguments(owner: str, arguments: ast.arguments, *, skip_first: bool) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args][1 if skip_first else 0 :]
    parameters = {
        argument.arg: ast.unparse(argument.annotation) if argument.annotation else None
        for argument in [*positional, *arguments.kwonlyargs]
    }
    return Signature(owner, parameters, is_open=arguments.kwarg is not None)
