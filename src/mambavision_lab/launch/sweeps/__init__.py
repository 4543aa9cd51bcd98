"""Sweeps: which jobs are run, what came of each, and the table at the end; knows no networks."""
