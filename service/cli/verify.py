"""`farfield verify`: buy the truth in the target cell and compare it with the campaign's result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from farfield.db.progress import Cost
    from farfield.oracles.oracle import Oracle
    from farfield.service.runner.verification import Truth

__all__ = ["verify"]


def verify(
    file: Annotated[Path, typer.Argument(help="The campaign file.")] = Path("campaign.toml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (needs --yes).")] = False,
) -> None:
    """Relax the defect with the oracle in the target cell and print the true errors.

    Says first what it will cost. Exit code 0 when both errors are within the tolerances, else 1.
    """
    from threadpoolctl import threadpool_limits

    from farfield.db.claims import Claims
    from farfield.db.record import Record
    from farfield.errors import CampaignError, ConfigError
    from farfield.oracles.fingerprint import fingerprint_hash
    from farfield.service.cli.opening import open_campaign
    from farfield.service.cli.where import find
    from farfield.service.estimates import Estimate
    from farfield.service.runner.clusters import connect
    from farfield.service.runner.recording import as_estimated
    from farfield.service.runner.refusal import refuse_change
    from farfield.service.runner.session import Session
    from farfield.service.runner.verification import EXPECTED_CALLS, Buyer, true_errors

    if as_json and not yes:
        raise ConfigError("--json cannot ask; say --yes too")
    config, oracle = open_campaign(file)
    place = find(file, None, None, readonly=False)
    with place, threadpool_limits(1):
        database = place.database
        record = Record(database)
        stored = record.campaign(place.campaign)
        assert stored is not None
        refuse_change(config, fingerprint_hash(oracle), stored)
        estimates = record.estimates(stored.id)
        if not estimates:
            raise CampaignError(f"{place.campaign} has no estimate to verify yet; let `farfield run` go on")
        loop = as_estimated(config, oracle, record, stored.id, max(estimates))
        natoms = loop.problem.target.natoms
        seconds = EXPECTED_CALLS * _expected(oracle, record.cost(stored.id), natoms)
        if not as_json:
            print(
                f"verify relaxes the defect with {oracle.name} in the target cell: about {EXPECTED_CALLS} calls of "
                f"{natoms} atoms, {seconds:.3g} core-seconds by the times of the calls so far"
            )
        if not yes and not typer.confirm("Buy them?"):
            raise typer.Exit(1)
        with (
            Session(Claims(database), beat=config.database.heartbeat) as session,
            connect(
                config.with_cluster(workers=1).cluster,
                one_host=database.dialect == "sqlite",
                base=config.base,
                folder=config.folder,
            ) as cluster,
        ):
            buy = Buyer(config, database, cluster, oracle, stored.id, session)
            truth = true_errors(loop, buy, Estimate.from_json(estimates[max(estimates)]))
        cost = record.cost(stored.id).by_role.get("verify")
        record.event(stored.id, "verified", _sentence(truth), truth.to_json())
    if as_json:
        print(json.dumps(truth.to_json()))
    else:
        _show(truth)
        if cost is not None:
            print(f"bought so far for verification: {cost.calls} calls, {cost.core_seconds:.1f} core-seconds")
    raise typer.Exit(0 if truth.within else 1)


def _expected(oracle: Oracle, cost: Cost, natoms: int) -> float:
    """Core-seconds of one call on `natoms` atoms: the oracle's hint, scaled by what the campaign's calls took."""
    hinted = sum(share.calls * oracle.cost(n) for n, share in cost.by_size.items())
    scale = cost.core_seconds / hinted if hinted > 0 and cost.core_seconds > 0 else 1.0
    return scale * oracle.cost(natoms)


def _sentence(t: Truth) -> str:
    return f"true errors: geometry {t.geometry_error:.4f} Å, formation energy {t.energy_error:+.4f} eV"


def _show(t: Truth) -> None:
    def ratio(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    print(f"{'':<28}{'true error':>12}{'estimated':>12}{'eta/true':>10}{'tolerance':>11}")
    print(
        f"{'geometry ||Du - Du^h|| (Å)':<28}{t.geometry_error:>12.5f}{t.eta_geo:>12.5f}{ratio(t.ratio_geo):>10}"
        f"{t.tol_geo:>11g}"
    )
    print(
        f"{'formation energy, raw (eV)':<28}{t.energy_error_raw:>+12.5f}{t.eta_energy:>+12.5f}"
        f"{ratio(t.ratio_energy):>10}"
    )
    print(f"{'  corrected by eta_E (eV)':<28}{t.energy_error:>+12.5f}{'':>22}{t.tol_energy:>11g}")
    print(
        f"formation energy: true {t.formation_energy:.5f} eV, corrected estimate {t.formation_energy_corrected:.5f} eV"
    )
    if t.other_basin:
        print("The oracle relaxed into another minimum than the surrogate's: this is no error estimate, look at both.")
    if not t.relaxed:
        print("The oracle's relaxation did not reach its force tolerance; the errors are those of its last step.")
    print("Both errors are within the tolerances." if t.within else "Not within the tolerances.")
