"""Run a task in all processes of a run, whoever starts them: this package, torchrun or srun."""
