"""Run a task in all processes of a run, started by this package, torchrun or srun."""
