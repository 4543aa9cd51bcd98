"""The backends of the scan: one file or folder each, and the registry that chooses among them."""
