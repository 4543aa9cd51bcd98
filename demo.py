"""Classify and explain images in a browser: python demo.py from_run=logs/latest (see --help)."""

from pathlib import Path

from mambavision_lab.commands import demo

if __name__ == "__main__":
    demo(root=Path(__file__).resolve().parent)
