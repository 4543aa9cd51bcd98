"""The numba backend; its door is `backend.py`."""
