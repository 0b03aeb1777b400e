"""Runs everything: rollouts, updates, records, the command line."""
