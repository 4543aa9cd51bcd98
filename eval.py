"""Evaluate a checkpoint on its own test images or others: python eval.py from_run=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import evaluate

if __name__ == "__main__":
    evaluate(root=Path(__file__).resolve().parent)
