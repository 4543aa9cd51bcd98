"""Count and measure what a network costs: python analyze.py model=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import analyze

if __name__ == "__main__":
    analyze(root=Path(__file__).resolve().parent)
