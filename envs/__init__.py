"""Environments: tasks, panels, episodes. Knows nothing of models, methods or result files."""
