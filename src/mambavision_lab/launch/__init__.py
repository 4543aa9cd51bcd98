"""All that lies between Hydra and a task: checks, run folders, snapshots, provenance. No torch here."""
