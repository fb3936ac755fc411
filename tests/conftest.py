"""What holds for the whole suite: no deadlines on a busy machine, and what it shows at its end."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The lines that tests marked `counts` print, also where they pass: how often what was done, and what was left."""
    shown = [r for r in terminalreporter.getreports("passed") if r.when == "call" and "counts" in r.keywords]
    if shown:
        terminalreporter.section("counts")
        for report in shown:
            for line in report.capstdout.splitlines():
                terminalreporter.line(line)
