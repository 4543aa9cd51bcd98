"""Get from a command line to a running task: checks, sweeps, processes; torch in `distributed/` alone."""
