"""Show what a network looks at: python explain.py from_run=logs/latest images=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import explain

if __name__ == "__main__":
    explain(root=Path(__file__).resolve().parent)
