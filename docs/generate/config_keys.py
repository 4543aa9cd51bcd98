"""Collect the keys of all configs: each with its type, its value in each choice and what it means.

A meaning comes from the docstring of the class that the node constructs and from the comments in the YAML;
a key that has neither, or no type, is listed by `incomplete`, and the build of the site refuses it.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args, get_type_hints

from hydra.conf import HydraConf
from omegaconf import OmegaConf

from mambavision_lab.config.meanings import parse_arguments, read_arguments, read_comments
from mambavision_lab.config.schema import SCHEMAS, TrainConfig
from mambavision_lab.config.signatures import read_signature
from mambavision_lab.files import configs_folder, list_choices

GROUPS = (
    *(
        "data",
        "augment",
        "multi_scale",
        "tta",
        "model",
        "loss",
        "optimizer",
        "scheduler",
        "trainer",
    ),
    *("callbacks", "logger", "sweep", "export", "paths"),
)
_INTERNAL = ("_target_", "_partial_")


@dataclass
class Row:
    """A key of a config, with its value in each choice that has it."""

    key: str
    type: str = ""
    meaning: str = ""
    comments: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Table:
    """The keys of one node: of one class that is constructed, or of a plain mapping."""

    target: str | None
    choices: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)


def group_tables(group: str) -> list[Table]:
    """Collect the keys of a group; choices that construct the same class share a table."""
    tables: dict[tuple[str, str | None], Table] = {}
    for choice in list_choices(group):
        values, comments = load_choice(group, choice)
        for node, target, key, value in leaves(values):
            place = f"{group}.{node}".rstrip(".")
            table = tables.setdefault((place, target), Table(target))
            _add(table, place, key, value, choice, comments.get(f"{node}.{key}".lstrip(".")))
    return list(tables.values())


def root_table(task: str) -> Table:
    """Collect the keys of a root config beside its groups."""
    path = configs_folder() / f"{task}.yaml"
    loaded: Any = OmegaConf.to_container(OmegaConf.load(path))
    comments = read_comments(path)
    table = Table(None)
    loaded.pop("defaults")
    loaded.pop("hydra")
    for node, target, key, value in leaves(loaded):
        nested = Table(target)
        name = f"{node}.{key}".lstrip(".")
        comment = comments.get(name)
        block = name.partition(".")[0]
        if comment is None and target is None and not schema_field(name, task)[1]:
            comment = comments.get(block)
        _add(nested, node, key, value, task, comment)
        table.rows.update(nested.rows)
    table.choices = [task]
    return table


def hydra_table() -> Table:
    """Collect the settings of Hydra that every command shares."""
    values, comments = load_choice("hydra", "default")
    table = Table(None)
    for node, _, key, value in leaves(values):
        name = f"{node}.{key}".lstrip(".")
        _add(table, f"hydra.{node}".rstrip("."), key, value, "default", comments.get(name))
    return table


def all_tables() -> dict[str, list[Table]]:
    """Return the tables of every page, by its name."""
    tables = {group: group_tables(group) for group in GROUPS}
    roots = {task: [root_table(task)] for task in SCHEMAS}
    return {
        **roots,
        **{f"group {name}": found for name, found in tables.items()},
        "hydra": [hydra_table()],
    }


def incomplete() -> list[str]:
    """Name the keys that have no meaning or no type."""
    return [
        f"{row.key} ({', '.join(row.values)}): no {'meaning' if row.type else 'type'}"
        for tables in all_tables().values()
        for table in tables
        for row in table.rows.values()
        if not (row.meaning or row.comments) or not row.type
    ]


@cache
def load_choice(group: str, choice: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Load the values and the comments of a choice on top of those that it inherits."""
    path = configs_folder() / group / f"{choice}.yaml"
    text = path.read_text(encoding="utf-8")
    if text.startswith("# @package _global_"):
        return {}, {}
    loaded: Any = OmegaConf.to_container(OmegaConf.create(text))
    comments: dict[str, str] = {}
    merged: dict[str, Any] = {}
    for entry in loaded.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_" and "@" not in entry:
            values, inherited = load_choice(group, entry)
            merged, comments = _merge(merged, values), comments | inherited
    return _merge(merged, loaded), comments | read_comments(path)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings as Hydra does; OmegaConf's own merge takes seconds for all of them."""
    merged = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged


def leaves(
    node: dict[str, Any], path: str = "", target: str | None = None, at: str = ""
) -> Iterator[tuple[str, str | None, str, Any]]:
    """Yield (path of the node, its target, key in the node, value) of every value in a config."""
    if "_target_" in node:
        target, path, at = node["_target_"], f"{path}.{at}".strip("."), ""
    for name, value in node.items():
        key = f"{at}.{name}".lstrip(".")
        if name in _INTERNAL:
            continue
        if isinstance(value, dict) and value:
            yield from leaves(value, path, target, key)
            continue
        yield path, target, key, value
        for i, item in enumerate(value if isinstance(value, list) else []):
            if isinstance(item, dict):
                yield from leaves(item, path, target, f"{key}[{i}]")


def _add(table: Table, place: str, key: str, value: Any, choice: str, comment: str | None) -> None:
    name = f"{place}.{key}".lstrip(".")
    row = table.rows.setdefault(key if table.target else name, Row(name))
    row.values[choice] = value
    if choice not in table.choices:
        table.choices.append(choice)
    if comment and comment not in row.comments:
        row.comments.append(comment)
    if row.type and row.meaning:
        return
    argument = key.partition(".")[0].partition("[")[0]
    if table.target:
        documented = read_arguments(table.target).get(argument)
        signature = read_signature(table.target)
        annotation = signature.parameters.get(argument) if signature else None
        row.meaning = documented.text if documented else ""
        row.type = annotation or (documented and documented.type) or row.type
    else:
        row.type, row.meaning = schema_field(name, choice)
    row.type = row.type or _type_of(value)


def schema_field(key: str, task: str) -> tuple[str, str]:
    """Return the type and the meaning that the schema of a task gives a key; empty where it has none."""
    schema: Any = SCHEMAS.get(task, TrainConfig)
    if key.startswith("hydra."):
        schema, key = HydraConf, key.removeprefix("hydra.")
    found, meaning = "", ""
    for part in key.split("."):
        hints = get_type_hints(schema) if dataclasses.is_dataclass(schema) else {}
        if part not in hints:
            return "", ""
        documented = parse_arguments(inspect.getdoc(schema) or "").get(part)
        schema, meaning = hints[part], documented.text if documented else ""
        found = _name_of(schema)
    return found, meaning


def _name_of(kind: Any) -> str:
    if kind is Any:  # a group
        return "dict | None"
    return str(kind) if get_args(kind) else str(kind.__name__)


def _type_of(value: Any) -> str:
    return "" if value is None else type(value).__name__
