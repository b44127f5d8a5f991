"""The command line: `omniq`."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""The same as `omniq.cli.exits.Exit.INTERRUPTED`."""


def main() -> None:
    """Run the command line and exit with its code; see `omniq.cli.exits`."""
    try:
        from omniq.cli.app import run
    except KeyboardInterrupt:  # of a Ctrl-C while all is still being imported
        sys.exit(INTERRUPTED)
    run()
