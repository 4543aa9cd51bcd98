"""Read and write single overrides in Hydra's grammar: their keys, and values that are taken literally."""

import re


def key_of(override: str) -> str:
    """Return the key of an override, such as "data" of "+data=cifar10" or "~data"."""
    return override.lstrip("+~").partition("=")[0]


def quoted(value: object) -> str:
    """Quote a value so that Hydra's grammar takes it literally."""
    # Backslashes escape before a quote alone, there they are doubled.
    text = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), str(value))
    return f"'{text}'"


def unquoted(value: str) -> str:
    """Return a value without the quotes around it, if it has any, as Hydra's grammar reads it."""
    quote = value[:1]
    if len(value) < 2 or quote not in ("'", '"') or value[-1] != quote:
        return value
    return re.sub(rf"(\\+)({quote}|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], value[1:-1])
