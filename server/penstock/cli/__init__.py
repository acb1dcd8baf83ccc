"""The command line: `penstock COMMAND`. docs/cli.md describes it; penstock.cli.plainly has the exit statuses."""

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    import os
    import sys

    # Ctrl-C while modules are imported is a Ctrl-C like any other.
    try:
        from penstock.cli.commands import run

        status = run()
    except KeyboardInterrupt:
        status = 130
    if status in (130, 141):
        # Threads that wait for answers nobody wants any more would be waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
