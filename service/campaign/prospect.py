"""What a campaign has before it: the next decision, and the forecast of error against cost up the ladder.

Pure: read off a loop that stands where the record ends; it asks, and buys nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from farfield.oracles.observation import KINDS
from farfield.service.campaign.decision import Decision, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.cells import Size, next_rung
from farfield.service.cells.ladder import is_complete, next_complete, reaches
from farfield.service.estimates import Estimate
from farfield.service.proposals.choice import name
from farfield.service.proposals.cost import FittedCost, fit_cost
from farfield.service.proposals.forecast import Forecast, Purchase, Relief, Rung, forecast, reliefs
from farfield.service.proposals.opening import force_constant_cells, strain_count

__all__ = ["Prospect", "prospect"]


@dataclass(frozen=True)
class Prospect:
    """`following`: the decision that is next, or under way, or why there is none. `open` its proposals that miss an
    answer and `expected` what they cost by `cost`. `history`: the estimates so far. `forecast` is None before the first
    estimate with open gates, and at the end; `reliefs` are empty then."""

    following: Decision | Stop
    open: tuple[Proposal, ...]
    expected: float
    cost: FittedCost
    history: tuple[Estimate, ...]
    forecast: Forecast | None
    reliefs: tuple[Relief, ...]


def prospect(loop: Loop, spent: float, under_way: Decision | None = None, answered: Collection[int] = ()) -> Prospect:
    """The prospect of `loop`. `spent`: core-seconds charged so far. `under_way`: a decision that is not told yet, of
    which the proposals `answered` (ordinals) are paid.

    Costs are core-seconds from the times of the calls so far, whatever `[cost] model` the decisions are made with.
    """
    cost = fit_cost(loop.observed.timings.values(), loop.config.cost.exponent)
    purchases = list(_purchases(loop, cost))  # before asking, which moves the state on to what it buys
    following = under_way if under_way is not None else loop.ask()
    history = tuple(Estimate.from_json(e) for e in loop.state.estimates)
    if isinstance(following, Stop):
        return Prospect(following, (), 0.0, cost, history, None, ())
    missing = tuple(p for p in following.proposals if p.ordinal not in answered)
    expected = sum(cost(len(p.atoms), p.role) for p in missing)
    target = loop.config.target
    basis_size = loop.state.solution.get("basis_size")
    ladder = _ladder(loop, following, expected, cost)
    curve = forecast(history, ladder, target.tol_geo, target.tol_energy, spent, basis_size)
    found = reliefs(history[-1], purchases) if curve is not None else []
    return Prospect(following, missing, expected, cost, history, curve, tuple(found))


def _ladder(loop: Loop, following: Decision, expected: float, cost: FittedCost) -> list[Rung]:
    """The rungs from the next verification call to the target cell, the first with all that the decision buys."""
    problem, host = loop.problem, loop.problem.host
    asked = next((p.rung for p in following.proposals if p.role == "verification"), None)
    size = asked or next_rung(host, loop.state.rung or problem.first_size)
    kinds = "".join(k for k in KINDS if k in loop.oracle.supports)
    rungs: list[Rung] = []
    while not reaches(size, problem.target.size):
        natoms = problem.cell(size).natoms
        price = cost(natoms, "verification") + _reference(loop, size, cost)
        if not rungs:
            price = expected if asked is not None else price + expected
        rungs.append(Rung(size, natoms, is_complete(host, size), kinds, price))
        size = next_rung(host, size)
    return rungs


def _reference(loop: Loop, size: Size, cost: FittedCost) -> float:
    """The cost of what the energies of a rung are compared with, for an oracle with a mesh (decisions C2)."""
    if loop.oracle.mesh == "none" or size in loop.observed.references:
        return 0.0
    cells = 1 if loop.oracle.mesh_of is not None else size[0] * size[1] * size[2]
    return cost(cells * loop.problem.host.nb, "reference")


def _purchases(loop: Loop, cost: FittedCost) -> Iterator[Purchase]:
    """What may be bought beside the next rung: rows in the fit (bought already), strained cells, a larger FC cell."""
    state, host = loop.state, loop.problem.host
    if not state.fit_fc and loop.observed.constants:
        yield Purchase("fc", "FC rows into the fit", 0.0)
    if loop.observed.strains and not state.fit_v:
        yield Purchase("v", "V rows into the fit", 0.0)
    elif loop.observed.strains:
        calls = strain_count(host)
        yield Purchase("v", f"{calls} strained cells", calls * cost(host.nb, "strain"))
    larger = next_complete(host, state.fc_size) if state.fc_size is not None else None
    if larger is None or any(a > b for a, b in zip(larger, loop.problem.target.size, strict=True)):
        return
    nondiagonal = loop.observed.constants[-1].nondiagonal if loop.observed.constants else False
    cells = force_constant_cells(host, larger, 0.0, "folding", nondiagonal=nondiagonal)
    price = sum(cost(len(c[0]), "force constants") for c in cells)
    yield Purchase("fold", f"FC on {name(larger)}", price)
    if state.fit_fc:
        yield Purchase("fc", f"FC on {name(larger)}", price)
