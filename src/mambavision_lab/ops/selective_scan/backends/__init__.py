"""The backends of the scan: one file or folder each, their common types, and the registry of them."""
