"""The logic behind the entry points, one task per file."""
