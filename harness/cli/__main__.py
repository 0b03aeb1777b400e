"""`python -m stepcredit.harness.cli`: the `stepcredit` command without an installed script."""

from stepcredit.harness.cli import main

if __name__ == "__main__":
    main()
