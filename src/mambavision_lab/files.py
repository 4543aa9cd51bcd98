"""Where the package finds the files that are not Python."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """The configs: inside an installed package, beside src/ in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "configs"
