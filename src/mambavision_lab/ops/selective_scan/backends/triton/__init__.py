"""The Triton backend; its door is `backend.py`."""
