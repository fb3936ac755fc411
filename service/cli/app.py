"""The application: its verbs, and how an error reaches a person (one line, exit code 2, no traceback).

Verb modules import what they need inside their functions, so that ``farfield --help`` stays fast.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from farfield.errors import CampaignInterrupted, FarfieldError
from farfield.service.cli import (
    calls,
    database,
    dataset,
    export,
    importing,
    init,
    listing,
    log,
    oracle,
    plan,
    report,
    run,
    status,
    steering,
    verify,
    watch,
    withdraw,
)

__all__ = ["app"]


class Verbs(TyperGroup):
    """A group that turns errors made on purpose, and those of files, into one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; FarfieldError and OSError end with exit code 2, an interrupted campaign with 1."""
        code = 2
        try:
            return super().invoke(ctx)
        except FarfieldError as fault:
            code = 1 if isinstance(fault, CampaignInterrupted) else 2
            line = " ".join(str(fault).split())
            if (pointer := getattr(fault, "pointer", None)) is not None:
                line += f"\n{pointer}"
        except BrokenPipeError:  # the reader, such as `head`, has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except OSError as fault:
            where = f" {fault.filename}" if fault.filename else ""
            line = f"cannot use{where}: {fault.strerror or fault}; check the path, its permissions and the disk"
        except Exception as fault:
            if not (line := _database_fault(fault)):
                raise
        print(f"farfield: {line}", file=sys.stderr)
        raise typer.Exit(code)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Buy the oracle calculations that a surrogate needs to get one defect right, and stop by the estimated error.",
)


def _database_fault(fault: Exception) -> str:
    """One line for a database that fails in the middle; empty for every other fault."""
    if "sqlalchemy.exc" not in sys.modules:
        return ""
    from sqlalchemy.exc import DBAPIError

    if not isinstance(fault, DBAPIError):
        return ""
    why = " ".join(str(fault.orig).split())
    return f"the database fails ({why}); all that was acknowledged is in it: mend it and say the same again"


def _version(wanted: bool) -> None:
    if wanted:
        from farfield import __version__

        print(f"farfield {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("init")(init.init)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("watch")(watch.watch)
app.command("log")(log.log)
app.command("pause")(steering.pause)
app.command("resume")(steering.resume)
app.command("stop")(steering.stop)
app.command("retry")(calls.retry)
app.command("cancel")(calls.cancel)
app.command("withdraw")(withdraw.withdraw)
app.command("report")(report.report)
app.command("ls")(listing.ls)
app.command("show")(listing.show)
app.command("summary")(listing.summary)
app.command("import")(importing.import_labels)
app.command("export")(export.export)
app.add_typer(dataset.app, name="dataset")
app.add_typer(database.app, name="db")
app.command("verify")(verify.verify)
app.add_typer(oracle.app, name="oracle")
