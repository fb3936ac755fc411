"""Between the record and the loop: decisions and answers read back, what the loop concludes written down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from farfield.db.decisions import StoredDecision
from farfield.db.record import Record
from farfield.errors import CampaignError
from farfield.oracles.oracle import Oracle, SettableMesh
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.continuous import OPEN, Earlier, still_open
from farfield.service.campaign.decision import Answer, Decision, DerivedForceConstants, Note, OracleInfo, Proposal, Stop
from farfield.service.runner.budgets import given_up

if TYPE_CHECKING:
    from farfield.service.campaign.loop import Loop
    from farfield.service.estimates import Estimate
    from farfield.service.surrogate import Surrogate

__all__ = [
    "ASKED",
    "LoopLike",
    "Start",
    "as_estimated",
    "note_down",
    "open_decisions",
    "oracle_info",
    "read_answers",
    "read_decisions",
    "restore",
    "start_loop",
    "withdraw_asked",
    "write_down",
]


class LoopLike(Protocol):
    """What the runner asks of a loop; see `campaign.loop.Loop`."""

    @property
    def surrogate(self) -> Surrogate | None:
        """The fitted surrogate, for the record."""

    def withdraw(self, calculations: Collection[str]) -> int:
        """Keep labels out of every later fit."""

    def ask(self) -> Decision | Stop:
        """The next decision, or the end."""

    def tell(self, decision: Decision, answers: Sequence[Answer], earlier: Earlier = ()) -> None:
        """Take the answers to `decision`, and to what was open of those before."""

    def needs(self, decision: Decision) -> set[int]:
        """Ordinals without which there is no next decision; asked in continuous rounds alone, as what follows."""

    @property
    def open_places(self) -> set[tuple[int, int]]:
        """What had not come when the last decision was told."""

    def estimate(self) -> Estimate | None:
        """The estimate of the last told decision, if it gave one."""

    def derived(self) -> list[DerivedForceConstants]:
        """The FC observations that the last told decision completed."""

    def notes(self) -> list[Note]:
        """What the last told decision found out about labels in doubt."""


ASKED = "withdraw"
"""The event by which a person asks to withdraw the label of the calculation that it names."""
Start = Callable[[Sequence[Decision], Sequence[Sequence[Answer]]], LoopLike]
"""Makes a loop that stands after the stored decisions; the last of them has no answers yet."""


def oracle_info(oracle: Oracle) -> OracleInfo:
    """What the loop must know of an oracle: name, mesh rule, noise and kinds."""
    mesh_of = oracle.mesh_of if oracle.mesh == "settable" and isinstance(oracle, SettableMesh) else None
    return OracleInfo(oracle.name, oracle.mesh, oracle.analytic, frozenset(oracle.supports), mesh_of)


def start_loop(config: CampaignConfig, oracle: Oracle) -> Start:
    """How the pure loop of `config` starts or resumes."""

    def start(decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> Loop:
        from farfield.service.campaign.loop import Loop

        return Loop.restore(config, oracle_info(oracle), decisions, answers)

    return start


def restore(config: CampaignConfig, oracle: Oracle, record: Record, campaign: int) -> tuple[Loop, Decision | None]:
    """The loop as the record leaves it, and the decision that still waits for answers, if any.

    A last decision that is settled is told, with the withdrawals that people asked for, as `Runner` would. No cluster
    needed; nothing is written.
    """
    from farfield.service.campaign.loop import Loop

    decisions = read_decisions(record, campaign)
    answers = [read_answers(record, campaign, d) for d in decisions]
    loop = Loop.restore(config, oracle_info(oracle), decisions, answers[:-1])
    if not decisions:
        return loop, None
    missing = record.missing(campaign, decisions[-1].number)
    if any(given_up(m) is None for m in missing):
        return loop, decisions[-1]
    withdraw_asked(record, campaign, loop)
    loop.tell(decisions[-1], answers[-1], _still_pending(record, campaign, loop, decisions, answers))
    return loop, None


def _still_pending(
    record: Record, campaign: int, loop: Loop, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]
) -> Earlier:
    """What was open of earlier decisions, marked as pending where it may still come."""
    out = []
    for d, told in still_open(loop.state, decisions, answers):
        coming = {m.ordinal for m in record.missing(campaign, d.number) if given_up(m) is None}
        out.append((d, [replace(a, pending=a.ordinal in coming) for a in told]))
    return out


def as_estimated(config: CampaignConfig, oracle: Oracle, record: Record, campaign: int, number: int) -> Loop:
    """The loop as it stood when decision `number` was made: its solution is the one that its estimate is of.

    A campaign that ended by its budget has refitted since then.
    """
    from farfield.service.campaign.loop import Loop

    decisions = read_decisions(record, campaign)[: number + 1]
    answers = [read_answers(record, campaign, d) for d in decisions[:-1]]
    return Loop.restore(config, oracle_info(oracle), decisions, answers)


def read_decisions(record: Record, campaign: int) -> list[Decision]:
    """The stored decisions of a campaign in order."""
    return [_decision(d) for d in record.decisions(campaign)]


def _decision(d: StoredDecision) -> Decision:
    proposals = tuple(Proposal(p.ordinal, p.atoms, p.kinds, p.role, p.term, p.rung, p.meta) for p in d.proposals)
    return Decision(d.number, d.reason, proposals, d.inputs, d.seed, d.cost_model, d.weights, d.summary, d.state)


def open_decisions(record: Record, campaign: int) -> list[int]:
    """Numbers of the decisions that may still be bought for: the last, and those it left something open of."""
    last = record.last_decision(campaign)
    return [] if last is None else [*last.summary.get(OPEN, ()), last.number]


def read_answers(record: Record, campaign: int, decision: Decision) -> list[Answer]:
    """The accepted labels for each proposal of `decision`, by ordinal."""
    return [
        Answer(a.ordinal, a.calculation, a.energy, a.forces, a.virial, a.failure, a.message, a.moments, a.core_seconds)
        for a in record.answers(campaign, decision.number)
    ]


def withdraw_asked(record: Record, campaign: int, loop: LoopLike) -> list[Note]:
    """Take the labels that people asked to withdraw out of `loop`, which stands between two decisions; what is new."""
    notes = []
    done = {e.data.get("calculation") for e in record.events(campaign, "withdrawn")}
    for e in record.events(campaign, ASKED):
        key = str(e.data["calculation"])
        try:
            loop.withdraw([key])
        except CampaignError as fault:
            notes.append(Note("not withdrawn", f"{e.message}: {fault}", key))
            continue
        if key not in done:
            notes.append(Note("withdrawn", f"{e.message}, by hand", key))
    return notes


def note_down(record: Record, campaign: int, notes: Sequence[Note]) -> list[Note]:
    """Events that name calculations, once each though a decision may be told twice; those that are new."""
    new = []
    for note in notes:
        known = record.events(campaign, note.kind)
        if note.calculation not in {e.data.get("calculation") for e in known}:
            record.event(campaign, note.kind, note.message, {"calculation": note.calculation})
            new.append(note)
    return new


def write_down(
    record: Record,
    campaign: int,
    fingerprint: str,
    loop: LoopLike,
    decision: Decision,
    answers: Sequence[Answer],
    earlier: Earlier = (),
) -> None:
    """Store what the loop made of the answers: derived FC, estimate, surrogate. Twice is as good as once."""
    keys = {(d.number, a.ordinal): a.calculation for d, told in (*earlier, (decision, answers)) for a in told}
    for c in loop.derived():
        if any((c.decision, ordinal) not in keys for ordinal, _, _ in c.parts):
            continue  # of an earlier decision, stored then
        parts = [(keys[c.decision, ordinal], step, rotation) for ordinal, step, rotation in c.parts]
        record.store_force_constants(c.atoms, fingerprint, c.site, c.direction, c.step, c.column, parts)
    if (estimate := loop.estimate()) is not None:
        record.store_estimate(campaign, decision.number, estimate.to_json())
    if (surrogate := loop.surrogate) is not None:
        record.store_model(campaign, decision.number, surrogate.to_bytes())
