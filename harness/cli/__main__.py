"""`python -m harness.cli`: the `stepcredit` command without an installed script."""

from harness.cli import main

if __name__ == "__main__":
    main()
