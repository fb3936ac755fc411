"""`farfield run`: create or resume a campaign, the same command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from farfield.db.engine import Database
    from farfield.service.campaign.config import CampaignConfig
    from farfield.service.runner.runner import Result, Runner

__all__ = ["run"]

STOPPED_AT_ONCE = 130
"""Exit code after a second Ctrl-C, as of a process that SIGINT ended."""


def run(
    file: Annotated[Path, typer.Argument(help="The campaign file.")] = Path("campaign.toml"),
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes of the local cluster.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler.")] = None,
    accept_version: Annotated[
        bool, typer.Option("--accept-version", help="Resume although the oracle reports another version.")
    ] = False,
) -> None:
    """Run a campaign, or resume it. Ctrl-C once drains, twice stops at once; either way `run` resumes.

    Exit code 0: tolerance met, or drained; 1: it cannot go on; 2: wrong input, or nobody answers at the start;
    3: ended without the tolerance.
    """
    from rich.console import Console

    from farfield.db.claims import Claims
    from farfield.db.engine import open_database
    from farfield.oracles.fingerprint import fingerprint_hash
    from farfield.service.cli.display import Display
    from farfield.service.cli.opening import open_campaign
    from farfield.service.cli.rounds import stored_rounds
    from farfield.service.runner.clusters import connect
    from farfield.service.runner.host import this_host
    from farfield.service.runner.logs import logged_to
    from farfield.service.runner.orders import logs_of
    from farfield.service.runner.recording import start_loop
    from farfield.service.runner.refusal import refuse_change, refuse_second
    from farfield.service.runner.runner import Runner

    config, oracle = open_campaign(file, workers=workers, scheduler=scheduler)
    start = start_loop(config, oracle)
    config.folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    again = f"farfield run {file}" + (f" --scheduler {scheduler}" if scheduler else "")
    name = config.campaign.name
    crystal = f"{config.host.lattice} {'-'.join(config.host.species)}"
    title = f"{name}: {config.defect.words} in {crystal}, oracle {oracle.name}"
    with open_database(config.database_url, create=True) as database:
        record = _record(database)
        stored = record.campaign(name)
        if stored is not None:  # before a cluster starts and anything is written
            refuse_change(config, fingerprint_hash(oracle), stored, accept_version=accept_version)
            Claims(database).release_dead(*this_host())
            held = record.campaign(name)
            refuse_second(config, None if held is None else held.holder)
        known = [] if stored is None else stored_rounds(record, stored.id)
        try:
            with (
                Display(console, title, known) as display,
                connect(
                    config.cluster, one_host=database.dialect == "sqlite", base=config.base, folder=config.folder
                ) as cluster,
            ):
                runner = Runner(
                    config, database, cluster, oracle, start, listener=display, accept_version=accept_version
                )
                with _interrupts(runner, console), logged_to(logs_of(config), "controller"):
                    result = runner.run()
        except KeyboardInterrupt:
            console.print(f"Stopped at once. Everything bought is recorded; {again} resumes.", soft_wrap=True)
            raise typer.Exit(STOPPED_AT_ONCE) from None
        _conclude(console, config, file, again, database, result)
    raise typer.Exit(result.exit_code)


def _record(database: Database):  # type: ignore[no-untyped-def]
    from farfield.db.record import Record

    return Record(database)


@contextmanager
def _interrupts(runner: Runner, console: Console) -> Iterator[None]:
    """Ctrl-C (or SIGTERM) once drains; a second Ctrl-C raises KeyboardInterrupt, also where the first was a SIGTERM.

    One that comes after `farfield stop` is the first: whoever sits here may not know of that.
    """
    asked = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if asked > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt
        runner.drain("Ctrl-C" if number == signal.SIGINT else "SIGTERM")
        text = "Draining: calls in flight finish, nothing new is bought. Ctrl-C again stops at once."
        console.print(text, soft_wrap=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _conclude(
    console: Console, config: CampaignConfig, file: Path, again: str, database: Database, result: Result
) -> None:
    """Why it stopped, where everything lies, what to do next. `again`: the command that goes on."""
    from farfield.service.cli.outputs import REPORT, write_outputs
    from farfield.service.estimates.estimate import THETA_COMPLETE, THETA_OTHER

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say("")
    say(f"Stopped: {result.reason}.")
    record = _record(database)
    stored = record.campaign(config.campaign.name)
    if stored is not None:
        estimates = record.estimates(stored.id)
        if estimates:
            last = estimates[max(estimates)]
            say(
                f"Formation energy {last['formation_energy']:.4f} eV, {last['formation_energy_raw']:.4f} uncorrected; "
                f"estimated errors: geometry {last['eta_geo']:.4f} Å of {config.target.tol_geo:g}, "
                f"energy {1e3 * last['eta_energy']:+.2f} meV of {1e3 * config.target.tol_energy:g}."
            )
            if not result.converged:
                say(
                    f"The stop asks for {THETA_COMPLETE:g} times them ({THETA_OTHER:g} on incomplete rungs) below the "
                    "tolerances, on two rungs in a row."
                )
        cost = record.cost(stored.id)
        say(f"Bought: {cost.calls} oracle calls, {cost.core_seconds:.1f} core-seconds.")
    say("")
    say(f"database   {database.shown}")
    if not result.drained:
        for line in write_outputs(database, config.campaign.name, config.folder):
            say(line)
    say("")
    if result.drained:
        say(f"Next: {again} goes on where it stopped.")
    elif result.converged:
        say(f"Next: open {config.folder / REPORT}; farfield verify {file} buys the truth and compares.")
    elif result.exit_code == 3:
        say(
            f"Next: a larger [budget] or surrogate.max_level in {file} goes on with {again}; another target or "
            "tolerance needs another campaign.name, and buys nothing twice where its database.url is this database."
        )
    else:
        say(f"Next: farfield status {file} shows what failed; mend it, then {again} goes on.")
