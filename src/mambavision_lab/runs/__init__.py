"""Open and read run folders: their files, snapshots and provenance; no torch, no launcher."""
