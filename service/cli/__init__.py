"""The command line: one file per verb. `main` is the console script."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    from farfield.service.cli.app import app

    app(prog_name="farfield")
