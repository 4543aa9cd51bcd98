"""Serve a trained network over HTTP: python serve.py from_run=... (see --help)."""

from pathlib import Path

from mambavision_lab.commands import serve

if __name__ == "__main__":
    serve(root=Path(__file__).resolve().parent)
