"""`farfield plan` where there is a record: how it stands, what it spent, the forecast, and the next decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.errors import RecordError

if TYPE_CHECKING:
    from farfield.db.campaigns import StoredCampaign
    from farfield.db.engine import Database
    from farfield.db.progress import Cost
    from farfield.oracles.oracle import Oracle
    from farfield.service.campaign.config import CampaignConfig
    from farfield.service.campaign.prospect import Prospect
    from farfield.service.estimates import Estimate
    from farfield.service.proposals.forecast import Need, Range

__all__ = ["Standing", "figure", "recorded", "show", "standing", "to_json"]

SHOWN = 10
"""Rungs of the forecast in the table; all are in `--json`."""


@dataclass(frozen=True)
class Standing:
    """A campaign of the record with its prospect. `decided`: core-seconds charged to its decisions."""

    stored: StoredCampaign
    cost: Cost
    decided: float
    prospect: Prospect
    under_way: bool
    target_atoms: int

    @property
    def state(self) -> str:
        """The campaign's state; a run without a live process was interrupted."""
        running = self.stored.state == "running"
        return "interrupted" if running and self.stored.holder is None else self.stored.state


def recorded(config: CampaignConfig) -> Database | None:
    """The database, open for reading, where it holds the campaign; None where there is none of it yet."""
    from farfield.db.engine import open_database
    from farfield.db.record import Record
    from farfield.errors import SchemaError

    url = config.database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    try:
        database = open_database(url, readonly=True)
    except SchemaError as fault:
        if fault.found is None:  # no table yet: `run` will make them
            return None
        raise
    if config.campaign.name in Record(database).campaigns():
        return database
    database.close()
    return None


def standing(config: CampaignConfig, oracle: Oracle, database: Database) -> Standing:
    """Read the record and ask the loop. Writes nothing. Raises CampaignError for a file that was changed since."""
    from threadpoolctl import threadpool_limits

    from farfield.db.record import Record
    from farfield.oracles.fingerprint import fingerprint_hash
    from farfield.service.campaign.prospect import prospect
    from farfield.service.runner.recording import restore
    from farfield.service.runner.refusal import refuse_change

    record = Record(database)
    stored = record.campaign(config.campaign.name)
    if stored is None:
        raise RecordError(f"campaign {config.campaign.name} has left the database while it was read; plan again")
    refuse_change(config, fingerprint_hash(oracle), stored, accept_version=True)
    decided = sum(share.core_seconds for place, share in record.charges(stored.id).items() if place is not None)
    with threadpool_limits(1):
        loop, waiting = restore(config, oracle, record, stored.id)
        answered: set[int] = set()
        if waiting is not None:
            missing = {m.ordinal for m in record.missing(stored.id, waiting.number)}
            answered = {p.ordinal for p in waiting.proposals} - missing
        found = prospect(loop, decided, waiting, answered)
    cost = record.cost(stored.id)
    return Standing(stored, cost, decided, found, waiting is not None, loop.problem.target.natoms)


def to_json(s: Standing, config: CampaignConfig) -> dict[str, Any]:
    """For `--json`: Å, eV and core-seconds."""
    from farfield.service.campaign.decision import Decision
    from farfield.service.cli.rounds import bought

    p = s.prospect
    following: dict[str, Any] = {"reason": p.following.reason}
    if isinstance(p.following, Decision):
        cells, buys = bought(p.open)
        following |= {"decision": p.following.number, "under_way": s.under_way, "cells": cells, "buys": buys}
        following |= {"calls": len(p.open), "core_seconds": p.expected}
    return {
        "campaign": s.stored.name,
        "state": s.state,
        "ending": s.stored.ending,
        "calls": s.cost.calls,
        "core_seconds": s.cost.core_seconds,
        "tol_geo": config.target.tol_geo,
        "tol_energy": config.target.tol_energy,
        "cost_model": p.cost.to_json(),
        "estimates": [e.to_json() for e in p.history],
        "forecast": None if p.forecast is None else p.forecast.to_json(),
        "reliefs": [asdict(r) for r in p.reliefs],
        "next": following,
        "budget_left": _left(s, config),
        "target_atoms": s.target_atoms,
    }


def _left(s: Standing, config: CampaignConfig) -> dict[str, float]:
    """What the budgets leave: calls, core-seconds."""
    out: dict[str, float] = {}
    if config.budget.calls is not None:
        out["calls"] = max(0, config.budget.calls - s.cost.calls)
    if config.budget.core_hours is not None:
        out["core_seconds"] = max(0.0, 3600 * config.budget.core_hours - s.cost.core_seconds)
    return out


def figure(s: Standing, database: Database, path: Path) -> None:
    """Draw forecast and measured errors against cost into `path`, by its suffix (png, pdf, svg).

    Raises RecordError for a place that cannot be written.
    """
    from farfield.service.report import load
    from farfield.service.report.prospect import Predicted, predicted_error
    from farfield.service.report.style import styled

    def ends(r: Range) -> tuple[float, float, float]:
        return r.value, r.low, r.high

    steps = s.prospect.forecast.steps[:SHOWN] if s.prospect.forecast is not None else ()
    drawn = predicted_error(
        load(database, s.stored.name),
        [Predicted(x.rung.size, x.spent, ends(x.geometry), ends(x.energy)) for x in steps],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with styled():
            drawn.savefig(path, dpi=200)
    except OSError as fault:
        raise RecordError(f"cannot write {path}: {fault.strerror}; give another --figure") from fault


def show(s: Standing, config: CampaignConfig, file: Path) -> None:
    """Print how the campaign stands and what is before it."""
    from rich.console import Console

    from farfield.service.campaign.decision import Decision
    from farfield.service.cli.rounds import bought

    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    p = s.prospect
    say(f"{s.stored.name}: {s.state}" + (f", {s.stored.ending}" if s.stored.ending else ""))
    say(f"spent: {s.cost.calls} oracle calls, {s.cost.core_seconds:.3g} core-s")
    if p.history:
        _table(console, p)
    if isinstance(p.following, Decision):
        _needs(s, config, say)
        for r in p.reliefs:
            if r.removes > 0.05 * p.history[-1].eta_geo:
                price = f", {_price(r.purchase.cost)}" if r.purchase.cost else ""
                say(f"beside the ladder: {r.purchase.what} takes at most {r.removes:.2g} Å of it{price}")
        cells, buys = bought(p.open)
        verb = f"under way: decision {p.following.number}" if s.under_way else f"next: decision {p.following.number}"
        what = f"{buys} on {cells}, {_price(p.expected, timed=p.cost.timed)}" if p.open else "all is answered"
        say(f"{verb}: {what}")
        say(f"why: {p.following.reason}")
        if s.state == "running":
            say(f"Nothing was bought here; {s.stored.holder} runs the campaign.")
        else:
            say(f"Nothing was bought; farfield run {file} goes on.")
    else:
        say(f"nothing is next: {p.following.reason}")


def _needs(s: Standing, config: CampaignConfig, say: Callable[[str], None]) -> None:
    """What the tolerance needs, in sentences."""
    f = s.prospect.forecast
    if f is None:
        text = "no estimate had all gates open" if s.prospect.history else "the first verified rung gives an estimate"
        say(f"no forecast yet: {text}")
        return
    if f.need is None:
        last = "the rungs end below the target cell" if f.steps else "the next rung is the target cell already"
        say(f"the tolerance is not reached before the target cell ({s.target_atoms} atoms): {last}")
        if f.best is not None:
            say(f"at the low ends of the 68 % intervals: {_need(f.best)}")
    else:
        say(f"needed to reach the tolerance: {_need(f.need)}")
        if f.best != f.worst and f.best is not None:
            worst = "not before the target cell" if f.worst is None else _short(f.worst)
            say(f"at the ends of the 68 % intervals: {_short(f.best)}; {worst}")
    left = _left(s, config)
    need = f.need
    if "calls" in left:
        short = need is not None and need.calls > left["calls"]
        say(f"[budget] leaves {left['calls']:.0f} calls" + (", too few" if short else ""))
    if "core_seconds" in left:
        short = need is not None and need.cost > left["core_seconds"]
        say(f"[budget] leaves {left['core_seconds'] / 3600:.3g} core-h" + (", too few" if short else ""))


def _need(n: Need) -> str:
    calls = "1 more verification call" if n.calls == 1 else f"{n.calls} more verification calls"
    return f"{calls}, up to {'x'.join(map(str, n.rung))}, {_price(n.cost)}"


def _short(n: Need) -> str:
    return f"{n.calls} {'call' if n.calls == 1 else 'calls'}, {_price(n.cost)}"


def _price(cost: float, *, timed: bool = True) -> str:
    if not timed:
        return f"about {cost:.3g} times the smallest call"
    return f"about {cost:.3g} core-s" + (f" ({cost / 3600:.3g} h)" if cost >= 600 else "")


def _table(console: Any, p: Prospect) -> None:
    """Measured rungs, then the forecast ones, in 80 columns."""
    from rich.table import Table

    steps = () if p.forecast is None else p.forecast.steps
    kinds = steps[0].rung.kinds if steps else ""
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1, 0, 0),
        caption="eta_geo in Å, |eta_E| in meV, cost in core-s"
        + (
            f"; forecast for one {kinds} call on each rung: medians, 68 % intervals; within: times theta"
            if steps
            else ""
        ),
        caption_justify="left",
    )
    for k, head in enumerate(("rung", "atoms", "cost", "spent", "eta_geo", "68 %", "|eta_E|", "68 %", "")):
        table.add_column(head, justify="left" if k in (0, 8) else "right", overflow="fold")
    for e in p.history:
        table.add_row(*_measured(e))
    for s in steps[:SHOWN]:
        g, x = s.geometry, s.energy
        table.add_row(
            "x".join(map(str, s.rung.size)),
            str(s.rung.natoms),
            f"{s.rung.cost:.3g}",
            f"{s.spent:.3g}",
            _length(g.value),
            f"{_length(g.low)}-{_length(g.high)}",
            _energy(x.value),
            f"{_energy(x.low)}-{_energy(x.high)}",
            "within" if s.within else "",
        )
    console.print(table)
    if len(steps) > SHOWN:
        console.print(f"... and {len(steps) - SHOWN} rungs more before the target cell", highlight=False)


def _measured(e: Estimate) -> tuple[str, ...]:
    gates = "measured" if e.believed else "gates closed"
    rung = "x".join(map(str, e.rung))
    return (rung, str(e.natoms), "", "", _length(e.eta_geo), "", _energy(e.eta_energy), "", gates)


def _length(value: float) -> str:
    return f"{value:.4f}" if value < 10 else f"{value:.3g}"


def _energy(value: float) -> str:
    """|eta_E| in meV."""
    shown = 1e3 * abs(value)
    return f"{shown:.3f}" if shown < 10 else f"{shown:.3g}"
