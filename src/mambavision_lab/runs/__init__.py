"""What a run folder is: its files, snapshot and provenance; knows no torch and no launcher."""
