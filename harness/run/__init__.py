"""One run, one update: read `train` from top to bottom."""
