"""A run of the benchmark as a row of docs/scale.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
MARK = "<!-- rows -->\n"


@dataclass(frozen=True)
class Row:
    """`mean` seconds of a call; rates per second; `controller`, `worker` and `server` (the database's; None
    for SQLite, which has none) CPU ms per calculation; `peak` MB of the
    controller; `load` of the machine over 15 minutes."""

    workers: int
    count: int
    database: str
    mean: float
    rate: float
    utilisation: float
    bare_rate: float
    bare_utilisation: float
    empty_rate: float
    controller: float
    worker: float
    server: float | None
    peak: float
    load: float

    @property
    def ratio(self) -> float:
        """The runner's rate over the bare one's."""
        return self.rate / self.bare_rate

    @property
    def _server(self) -> str:
        return "-" if self.server is None else f"{self.server:.2f}"

    def text(self) -> str:
        """For people."""
        return (
            f"{self.workers} workers, {self.count} calculations of {self.mean:.2f} s on {self.database}: "
            f"{self.rate:.1f} per second ({self.utilisation:.2f} of the workers' time), bare {self.bare_rate:.1f} "
            f"({self.bare_utilisation:.2f}), empty {self.empty_rate:.0f}; to bare {self.ratio:.2f}, "
            f"to empty {self.rate / self.empty_rate:.2f}; controller {self.controller:.2f} ms, workers "
            f"{self.worker:.2f} ms, database {self._server} ms CPU per calculation; "
            f"controller {self.peak:.0f} MB; load {self.load:.1f}"
        )

    def line(self) -> str:
        """For the table."""
        cells = (
            f"{self.workers}",
            f"{self.count}",
            self.database,
            f"{self.mean:.2f}",
            f"{self.rate:.1f}",
            f"{self.utilisation:.2f}",
            f"{self.bare_rate:.1f}",
            f"**{self.ratio:.2f}**",
            f"{self.rate / self.empty_rate:.2f}",
            f"{self.controller:.2f}",
            f"{self.worker:.2f}",
            self._server,
            f"{self.peak:.0f}",
            f"{self.load:.1f}",
        )
        return "| " + " | ".join(cells) + " |\n"


def add(row: Row) -> None:
    """Put the row at the end of the page's table."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(MARK, row.line() + MARK), encoding="utf-8")
