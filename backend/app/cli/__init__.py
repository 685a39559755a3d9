"""The `affinage` command. Nothing heavy is imported before a command needs it: `affinage --help` answers at once."""

import sys


def main() -> None:
    """Run the command line and exit with 0, 1 (failed) or 2 (usage)."""
    from app.cli.application import run

    sys.exit(run(sys.argv[1:]))
