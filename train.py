"""Train a network and test its best checkpoint: python train.py model=... data=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import train

if __name__ == "__main__":
    train(root=Path(__file__).resolve().parent)
