"""``python -m farfield`` is the command line."""

from __future__ import annotations

from farfield.service.cli import main

if __name__ == "__main__":
    main()
