"""Run exported files: one module per runtime, and one call, images in and logits out.

Parity checks, `eval.py`, `predict.py`, the server and `MambaVisionInference` all use it; it knows no
config, no format's settings and no data set.
"""
