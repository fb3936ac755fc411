"""What `run` shows while it works: a progress bar of oracle calls and a table with a line per round."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from farfield.service.cli.rounds import WIDE, Round, basis_of, bought, noise_of, rounds_table

if TYPE_CHECKING:
    from farfield.service.campaign.decision import Decision
    from farfield.service.estimates import Estimate
    from farfield.service.runner.listener import Progress

__all__ = ["Display"]


class Display:
    """A `Listener` that draws on a terminal; where there is none it prints a line per round."""

    def __init__(self, console: Console, title: str, rounds: list[Round]) -> None:
        self.console, self.rounds = console, rounds
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[totals]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("oracle calls", total=None, totals="")
        self._doing = "starting workers"
        self._plain = not console.is_terminal
        console.print(Text(title, style="bold"))
        if self._plain:
            for r in rounds:
                self._line(r)
        self._live = Live(self._picture(), console=console, auto_refresh=not self._plain, refresh_per_second=4)

    def __enter__(self) -> Display:
        if not self._plain:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._doing = ""
        if not self._plain:
            self._bar.remove_task(self._task)
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def decided(self, decision: Decision) -> None:
        """A round begins."""
        self._doing = f"round {decision.number}: {decision.reason}"
        self._bar.update(self._task, completed=0, total=len(decision.proposals))
        if self._plain:
            self.console.print(self._doing, highlight=False, soft_wrap=True)
        self._draw()

    def progressed(self, progress: Progress) -> None:
        """Calls went out or came back."""
        totals = f"{progress.in_flight} running; {progress.calls} calls, {progress.core_seconds:.1f} core-s in all"
        self._bar.update(self._task, completed=progress.settled, total=progress.total, totals=totals)

    def concluded(self, decision: Decision, estimate: Estimate | None, core_seconds: float) -> None:
        """The round's line."""
        cells, kinds = bought(decision.proposals)
        reason = estimate.reason if estimate is not None and estimate.reason else decision.reason
        used, noise = basis_of(decision.summary), noise_of(decision.summary)
        row = Round(decision.number, cells, kinds, core_seconds, reason, estimate, used, noise)
        self.rounds = [*(r for r in self.rounds if r.number != decision.number), row]
        self._doing = "refitting"
        if self._plain:
            self._line(row)
        self._draw()

    def noted(self, kind: str, message: str) -> None:
        """An event, printed above the table."""
        line = Text(f"{time.strftime('%H:%M:%S')} {kind}: {message}", style="dim")
        self.console.print(line, soft_wrap=self._plain)

    def _draw(self) -> None:
        if not self._plain:
            self._live.update(self._picture())

    def _picture(self) -> Group:
        parts: list[object] = [rounds_table(self.rounds, self.console.width)]
        if self.console.width < WIDE:
            parts += [Text(f"{r.number:>3}  {r.reason}", style="italic") for r in self.rounds[-4:]]
        if self._doing:
            parts += [Text(self._doing, style="cyan"), self._bar]
        return Group(*parts)  # type: ignore[arg-type]

    def _line(self, r: Round) -> None:
        e = r.estimate
        figures = ""
        if e is not None:
            beside = (e.in_sample, e.parametric_geo, e.noise)
            in_sample, spread, noise = ("-" if x is None else f"{x:.4f}" for x in beside)
            figures = (
                f"; eta_geo {e.eta_geo:.4f} Å (core {e.core:.4f}, FC {e.fc:.4f}, V {e.v:.4f}, "
                f"fold {e.fold:.4f}, hidden {e.hidden:.4f}, "
                f"noise {noise}, param. {spread}, in-sample {in_sample}); eta_E {1e3 * e.eta_energy:+.2f} meV; "
                f"E_f {e.formation_energy_raw:.4f} eV raw, {e.formation_energy:.4f} corrected; {e.basis_size} functions"
            )
        text = f"round {r.number}: {r.cells}: {r.bought}; {r.core_seconds:.1f} core-s{figures}"
        self.console.print(text, highlight=False, soft_wrap=True)
