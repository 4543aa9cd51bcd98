"""Sweeps: which jobs to run, the record of each, and the table at the end; knows no networks."""
