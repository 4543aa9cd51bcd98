"""Run sweeps: choose the jobs, record each, show a table at the end; knows no networks."""
