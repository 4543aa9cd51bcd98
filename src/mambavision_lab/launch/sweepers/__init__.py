"""What a sweep tries: one file per strategy."""
