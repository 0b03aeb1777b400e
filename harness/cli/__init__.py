"""The `stepcredit` command."""

from stepcredit.harness.cli.app import main

__all__ = ["main"]
