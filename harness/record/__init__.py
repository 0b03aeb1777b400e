"""What stays on disk: manifests, rows, checkpoints, files."""
