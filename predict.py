"""Classify images with a checkpoint: python predict.py from_run=... images=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import predict

if __name__ == "__main__":
    predict(root=Path(__file__).resolve().parent)
