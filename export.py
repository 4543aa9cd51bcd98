"""Write a trained network for another runtime: python export.py from_run=... export=onnx (see --help)."""

from pathlib import Path

from mambavision_lab.commands import export

if __name__ == "__main__":
    export(root=Path(__file__).resolve().parent)
