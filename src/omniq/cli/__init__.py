"""The command line: `omniq`."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code; see `omniq.cli.exits`."""
    from omniq.cli.app import run

    run()
