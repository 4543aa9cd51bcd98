"""Write the pages on the config groups in Markdown, from the keys that `config_keys` collects."""

import html
import re
from typing import Any

import yaml
from config_keys import Row, Table, group_tables, hydra_table, root_table

from mambavision_lab.config.help import about
from mambavision_lab.config.schema import SCHEMAS
from mambavision_lab.files import configs_folder, list_choices

_ROLE = re.compile(r":\w+:`~?([^`]*)`")


def group_page(group: str) -> str:
    """Write the page of a group in Markdown."""
    lines = [f"# {group}", "", f"Choose with `{group}=CHOICE`; files: `configs/{group}/`.", ""]
    lines += ["| choice | what it is |", "|---|---|"]
    for choice in list_choices(group):
        text = about(configs_folder() / group / f"{choice}.yaml")
        lines.append(f"| `{choice}` | {_escape(text)} |")
    for table in group_tables(group):
        if not table.rows:
            continue
        title = ", ".join(table.choices)
        node = next(iter(table.rows.values())).key.rpartition(".")[0]
        if node != group:
            title = f"{node} ({title})" if len(table.choices) < 6 else node
        lines += ["", f"## {title}", "", *table_lines(table)]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Write the page of the root configs in Markdown."""
    lines = ["# Root configs", "", "The keys of each command that lie in no group.", ""]
    for task in SCHEMAS:
        path = configs_folder() / f"{task}.yaml"
        lines += [f"## {task}", "", _escape(about(path)), "", *table_lines(root_table(task)), ""]
    lines += ["## hydra", "", "Settings of Hydra itself, the same for every command.", ""]
    return "\n".join([*lines, *table_lines(hydra_table())]) + "\n"


def experiments_page() -> str:
    """Write the page of the experiments: each file as it is."""
    lines = [
        "# experiment",
        "",
        "Choose with `experiment=CHOICE`. An experiment sets keys of other groups; "
        "what they mean stands there. Its first lines say how it was measured, or that it was not.",
        "",
    ]
    for choice in list_choices("experiment"):
        text = (configs_folder() / "experiment" / f"{choice}.yaml").read_text(encoding="utf-8")
        body = text.replace("# @package _global_\n", "")
        lines += [f"## {choice}", "", "```yaml", body.rstrip(), "```", ""]
    return "\n".join(lines)


def table_lines(table: Table) -> list[str]:
    """Write a table of keys in Markdown."""
    lines = []
    if table.target:
        lines += [f"Constructs `{table.target}`.", ""]
    lines += ["| key and type | default | meaning |", "|---|---|---|"]
    for row in table.rows.values():
        meaning = _shorten(_escape(_plain(row.meaning)))
        comments = "<br>".join(f"*{_escape(text)}*" for text in row.comments)
        text = "<br>".join(part for part in (meaning, comments) if part)
        lines.append(f"| `{row.key}`<br>{_code(row.type)} | {_defaults(row, table)} | {text} |")
    return lines


def _defaults(row: Row, table: Table) -> str:
    by_value: dict[str, list[str]] = {}
    for choice, value in row.values.items():
        by_value.setdefault(_flow(value), []).append(choice)
    if len(by_value) == 1 and len(row.values) == len(table.choices):
        return _code(next(iter(by_value)))
    return "<br>".join(
        f"{_code(value)} ({', '.join(choices)})" for value, choices in by_value.items()
    )


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _plain(text: str) -> str:
    return _ROLE.sub(r"`\1`", text).replace("``", "`")


def _shorten(text: str, limit: int = 400) -> str:
    sentences = re.split(r"(?<=[.;]) ", text)
    short = sentences[0]
    for sentence in sentences[1:]:
        if len(short) + len(sentence) > limit:
            break
        short += f" {sentence}"
    return short


def _escape(text: str) -> str:
    parts = text.split("`")
    parts[::2] = [
        html.escape(part, quote=False).replace("*", "\\*").replace("_", "\\_")
        for part in parts[::2]
    ]
    parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]  # in code it needs no escape
    return "`".join(parts).replace("\n", " ")


def _code(text: str) -> str:
    return f"`{text}`".replace("\n", " ") if text else ""
