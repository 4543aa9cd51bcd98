"""Trained networks as files for other runtimes, one file per format, each checked against eager mode."""
