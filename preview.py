"""Look at a data set and its augmentation before a training: python preview.py data=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import preview

if __name__ == "__main__":
    preview(root=Path(__file__).resolve().parent)
