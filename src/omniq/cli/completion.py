"""`omniq completion`."""

from __future__ import annotations

import sys
from typing import Literal

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Shell) -> None:
    """Print the script by which a shell completes commands and options.

    Args:
        shell: bash, zsh or fish.
    """
    from omniq.cli.app import cli

    sys.stdout.write(cli.generate_completion(shell=shell))
