"""The box at the top of the report: why the campaign ended, the formation energy with its error, eta, cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from farfield.service.report.convergence import cost_unit, true_energy_errors, true_geometry_errors
from farfield.service.report.data import CampaignData, size_name

__all__ = ["Fact", "Summary", "problem", "summary"]


@dataclass(frozen=True)
class Fact:
    """A figure of the summary: what it is, its value with unit, and a line that qualifies it."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """`tone` is "good", "open" or "bad"; `verdict` a few words, `reason` the loop's own sentence."""

    tone: str
    verdict: str
    reason: str
    facts: tuple[Fact, ...]


def problem(data: CampaignData) -> str:
    """The question in one line: defect, host, oracle with its noise, target."""
    c = data.config
    species = "".join(c["host"]["species"])
    d = c["defect"]
    what = str(d["kind"])
    if what == "complex":
        what = f"{len(d['removed'])} vacant, {len(d['added'])} extra, {len(d['changed'])} substituted"
    if d.get("species"):
        what = f"{d['species']} {what}"
    if isinstance(d.get("position"), str):
        what = f"{d['position']} {what}"
    noise = f" with noise {data.noise}" if data.noise is not None and not data.noise.none else ""
    return (
        f"{what[:1].upper()}{what[1:]} in {c['host']['lattice']} {species}, a = {data.host.a:.4f} Å; "
        f"oracle {c['oracle']['name']}{noise}; "
        f"target cell {size_name(data.target.size)} with {data.target.natoms} atoms"
    )


def summary(data: CampaignData) -> Summary:
    """The verdict and the four figures that matter."""
    if data.converged:
        tone, verdict = "good", "Tolerance met"
    elif data.ended:
        tone, verdict = "bad", "Ended without meeting the tolerance"
    else:
        tone, verdict = "open", f"Not ended: {data.state}"
    reason = data.ending or (data.rounds[-1].reason if data.rounds else "nothing has been decided yet")
    return Summary(tone, verdict, reason, tuple([*_estimates(data), _cost(data), *_truth(data)]))


def _estimates(data: CampaignData) -> list[Fact]:
    e = data.last
    if e is None:
        return [Fact("Estimate", "none yet", "no verification call has been answered")]
    bound = e.theta * abs(e.eta_energy)
    digits = int(min(4, max(3, 1 - math.floor(math.log10(max(bound, 1e-6))))))
    least = 10.0**-digits
    spread = f"± {bound:.{digits}f}" if bound >= least else f"± < {least:g}"
    notes = [Markup("±θ|η<sub>E</sub>|"), f"raw surrogate {e.formation_energy_raw:.{digits}f} eV"]
    if e.formation_energy_dilute is not None:
        notes.append(f"dilute limit {e.formation_energy_dilute:.{digits}f} eV")
    for s, value in (e.limits or {}).items():
        notes.append(f"{s}-rich {value:.{digits}f} eV")
    if e.relaxation_volume is not None and math.isfinite(e.relaxation_volume):
        per_site = data.host.volume / data.host.nb
        notes.append(f"relaxation volume {e.relaxation_volume:.2f} Å³ ({e.relaxation_volume / per_site:+.2f} Ω)")
    return [
        Fact("Formation energy", f"{e.formation_energy:.{digits}f} {spread} eV", Markup("; ").join(notes)),
        Fact(
            "Geometry error",
            f"η = {e.eta_geo:.4f} Å",
            f"θη = {e.guarded_geo:.4f} Å against a tolerance of {data.tol_geo:g} Å, on {size_name(e.rung)}",
        ),
        Fact(
            "Energy error",
            f"η = {1e3 * e.eta_energy:+.2f} meV",
            f"θ|η| = {1e3 * bound:.2f} meV against a tolerance of {1e3 * data.tol_energy:g} meV",
        ),
    ]


def _cost(data: CampaignData) -> Fact:
    seconds, calls = sum(r.core_seconds for r in data.rounds), sum(r.calls for r in data.rounds)
    unit, name = cost_unit(seconds)
    largest = max((x.rung for x in data.labels if x.calls), key=lambda s: (math.prod(s), s), default=(0, 0, 0))
    note = f"{len(data.rounds)} rounds; largest cell bought {size_name(largest)}"
    if data.other_cost[1]:
        note += f"; verify took {data.other_cost[0] / unit:.2f} {name} in {data.other_cost[1]} calls more"
    return Fact("Oracle cost", f"{seconds / unit:.2f} {name}", f"{calls} calls in {note}")


def _truth(data: CampaignData) -> list[Fact]:
    e = data.last
    if data.truth is None or e is None:
        return []
    number = data.estimated[-1][0].number
    geometry = true_geometry_errors(data).get(number, data.truth.geometry)
    energy = true_energy_errors(data)[number]
    ratio = f"; η/true = {e.eta_geo / geometry:.2f}" if geometry > 0 else ""
    if data.truth.other_basin:
        ratio = "; another minimum than the surrogate's, so this is no error: look at both"
    return [
        Fact(
            "True error (verify)",
            f"{geometry:.4f} Å, {1e3 * energy:+.2f} meV",
            Markup("oracle relaxed in the target cell: E<sub>f</sub> = ")
            + f"{data.truth.formation_energy:.4f} eV{ratio}",
        )
    ]
