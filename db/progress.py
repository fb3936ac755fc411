"""How far a decision is: what it still misses, what came back, and what everything cost.

Every function runs in its caller's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select

from farfield.db import rollup, schema
from farfield.db.blobs import blocks
from farfield.db.decisions import decision_row
from farfield.db.labels import Array, labels
from farfield.db.requests import CANCEL, RETRY, asked
from farfield.oracles.oracle import FAILURES

__all__ = [
    "TRIED_AGAIN",
    "Cost",
    "Missing",
    "Share",
    "StoredAnswer",
    "Streak",
    "answers",
    "charge",
    "charges",
    "cost",
    "failure_messages",
    "missing",
    "newest_failure",
    "streak",
]

Counts = dict[int, dict[str, int]]
TRIED_AGAIN = "tried again"
"""The event from which on failures count anew: somebody resumed a campaign that had ended for want of answers."""


@dataclass(frozen=True)
class Missing:
    """A proposal that is not answered in full: the kinds not accepted yet, how often attempts of this campaign failed
    by class since it was last told to try again, and the attempts (of any campaign) that are waiting or running.
    `cancelled`: a person gave it up."""

    ordinal: int
    calculation: str
    kinds: tuple[str, ...]
    failures: dict[str, int]
    open: tuple[int, ...]
    cancelled: bool = False


@dataclass(frozen=True)
class StoredAnswer:
    """The accepted labels of the kinds a proposal asked for; `failure` is the class of this campaign's last failed
    attempt where a kind is missing, `message` what it said. `moments` (N,) in Bohr magnetons. `core_seconds` of the
    attempts that brought the kinds, of any campaign; None where one is missing or has no time. `pending`, `dropped`:
    for who tells it in continuous rounds: it may still come, it was taken back."""

    ordinal: int
    calculation: str
    energy: float | None = None
    forces: Array | None = None
    virial: Array | None = None
    failure: str | None = None
    message: str | None = None
    moments: Array | None = None
    core_seconds: float | None = None
    pending: bool = False
    dropped: bool = False


@dataclass(frozen=True)
class Streak:
    """Calculations tried for the first time since the last call that succeeded, every one of them in vain; class and
    message of the last failure."""

    calculations: int = 0
    failure: str = ""
    message: str = ""


@dataclass(frozen=True)
class Share:
    """Part of a cost: calls that ended, and core-seconds."""

    calls: int = 0
    core_seconds: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a campaign was charged: every call that ran, whatever came of it. `running` calls are not counted yet.

    `by_role` (calls outside a decision under "verify"), `by_kinds` ("E,F"), `by_size` (number of atoms), `by_state`
    ("finished", "superseded", "failed: timed out", ...).
    """

    calls: int
    core_seconds: float
    running: int
    by_role: dict[str, Share] = field(default_factory=dict)
    by_kinds: dict[str, Share] = field(default_factory=dict)
    by_size: dict[int, Share] = field(default_factory=dict)
    by_state: dict[str, Share] = field(default_factory=dict)


def missing(
    connection: Connection, campaign: int, number: int, calculations: Collection[str] | None = None
) -> list[Missing]:
    """The proposals of a decision that miss a kind, by ordinal; of all, or of some `calculations` (keys)."""
    o = schema.observation.c
    rows = _asked(connection, campaign, number, calculations)
    there: set[tuple[int, str]] = set()
    for block in blocks(sorted({r.calculation_id for r in rows})):
        query = select(o.calculation_id, o.kind).where(o.calculation_id.in_(block), o.detail == "")
        there.update((i, kind) for i, kind in connection.execute(query))
    found = []
    for r in rows:
        kinds = tuple(k for k in r.kinds.split(",") if (r.calculation_id, k) not in there)
        if kinds:
            found.append((r, kinds))
    if not found:
        return []
    ids = {r.calculation_id: r.key for r, _ in found}
    words = asked(connection, campaign)
    failures = _failures(connection, campaign, ids, words)
    under_way = _open(connection, sorted(ids))
    return [
        Missing(
            r.ordinal,
            r.key,
            kinds,
            failures.get(r.calculation_id, {}),
            tuple(under_way.get(r.calculation_id, ())),
            r.key in words and words[r.key][0] == CANCEL,
        )
        for r, kinds in found
    ]


def answers(connection: Connection, campaign: int, number: int) -> list[StoredAnswer]:
    """What came back to each proposal of a decision, by ordinal: the kinds it asked for and no others."""
    rows = _asked(connection, campaign, number)
    known = labels(connection, {r.calculation_id for r in rows})
    last = _last_failures(connection, campaign, sorted({r.calculation_id for r in rows}))
    took = _times(connection, sorted({r.calculation_id for r in rows}))
    words = asked(connection, campaign)
    out = []
    for r in rows:
        kinds = r.kinds.split(",")
        have = known[r.calculation_id].only(kinds) if r.calculation_id in known else None
        whole = have is not None and set(have.kinds) == set(kinds)
        failure, message = (None, None) if whole else last.get(r.calculation_id, (None, None))
        if not whole and words.get(r.key, ("", 0.0))[0] == CANCEL:
            failure, message = None, "cancelled by hand"
        if have is None:
            out.append(StoredAnswer(r.ordinal, r.key, failure=failure, message=message))
        else:
            seconds = _sum({took[r.calculation_id, k] for k in kinds}) if whole else None
            out.append(
                StoredAnswer(
                    r.ordinal, r.key, have.energy, have.forces, have.virial, failure, message, have.moments, seconds
                )
            )
    return out


def cost(connection: Connection, campaign: int) -> Cost:
    """Everything a campaign was charged, in total and by parts."""
    total, seconds, running = 0, 0.0, 0
    parts: list[dict[Any, Share]] = [{}, {}, {}, {}]
    for role, kinds, natoms, state, failure, calls, spent in rollup.shares(connection, campaign):
        if state == "running":
            running += calls
            continue
        total, seconds = total + calls, seconds + spent
        names = (role, kinds, natoms, state if failure is None else f"{state}: {failure}")
        for part, name in zip(parts, names, strict=True):
            old = part.get(name, Share())
            part[name] = Share(old.calls + calls, old.core_seconds + spent)
    return Cost(total, seconds, running, *parts)


def failure_messages(connection: Connection, campaign: int) -> dict[str, str]:
    """The message of the newest failed attempt of each failure class: one step in an index for each."""
    out = {}
    for failure in sorted(FAILURES):
        found = connection.execute(newest_failure(campaign, failure)).one_or_none()
        if found is not None:
            out[failure] = found.message or ""
    return out


def newest_failure(campaign: int, failure: str) -> Select[tuple[int, str | None]]:
    """The newest attempt of a campaign that failed so, and its message."""
    a = schema.attempt.c
    failed = select(a.id, a.message).where(a.campaign_id == campaign, a.failure == failure)
    return failed.order_by(a.id.desc()).limit(1)


def streak(connection: Connection, campaign: int, patience: Mapping[str, int] | None = None) -> Streak:
    """How many new calculations have failed in a row, retries of old ones apart: those may be hard cells, while the
    oracle is sound. Lost workers say nothing of the oracle and are left out.

    `patience`: by class, how often a calculation must fail before it counts; else once.
    """
    a = schema.attempt.c
    mine = a.campaign_id == campaign, a.created >= _tried_again(connection, campaign)
    failures = (*mine, a.state == "failed", a.failure != "worker lost")
    ends = [connection.scalar(select(func.max(a.ended)).where(*mine, a.state == s)) for s in ("finished", "superseded")]
    since = max((e for e in ends if e is not None), default=0.0)
    query = select(a.id, a.calculation_id, a.failure, a.ended).order_by(a.ended, a.id)
    tried = connection.execute(query.where(*failures, a.ended > since)).all()
    before = [
        row
        for block in blocks(sorted({r.calculation_id for r in tried}))
        for row in connection.execute(query.where(*failures, a.ended <= since, a.calculation_id.in_(block)))
    ]
    failed: set[int] = set()
    new: set[int] = set()
    last = None
    times: Counter[tuple[int, str]] = Counter()
    for attempt, calculation, failure, ended in [*before, *tried]:
        times[calculation, failure] += 1
        if times[calculation, failure] < (patience or {}).get(failure, 1):
            continue
        if calculation not in failed and ended > since:
            new.add(calculation)
        failed.add(calculation)
        last = attempt
    if not new:
        return Streak()
    found = connection.execute(select(a.failure, a.message).where(a.id == last)).one()
    return Streak(len(new), found.failure, found.message or "")


def charges(connection: Connection, campaign: int) -> dict[tuple[int, int] | None, Share]:
    """What each proposal (decision, ordinal) was charged; calls outside a decision under None."""
    a, d, p = schema.attempt.c, schema.decision.c, schema.proposal.c
    rows = connection.execute(
        _charged(d.number, p.ordinal)
        .outerjoin(schema.decision, d.id == p.decision_id)
        .where(a.campaign_id == campaign, a.state != "running")
        .group_by(d.number, p.ordinal)
    ).all()
    return {None if r.number is None else (r.number, r.ordinal): Share(r.calls, float(r.seconds)) for r in rows}


def charge(connection: Connection, campaign: int, number: int) -> Share:
    """What the proposals of one decision were charged."""
    a, p = schema.attempt.c, schema.proposal.c
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(a.core_seconds), 0.0))
        .select_from(schema.proposal)
        .join(schema.attempt, and_(a.calculation_id == p.calculation_id, a.proposal_id == p.id))
        .where(p.decision_id == decision_row(connection, campaign, number))
        .where(a.started.is_not(None), a.state != "running")
    ).one()
    return Share(row[0], float(row[1]))


def _charged(*columns: Any) -> Select[Any]:
    """Calls that started, counted and summed; the rest of the query groups them."""
    a, c, p, s = schema.attempt.c, schema.calculation.c, schema.proposal.c, schema.structure.c
    return (
        select(*columns, func.count().label("calls"), func.coalesce(func.sum(a.core_seconds), 0.0).label("seconds"))
        .select_from(schema.attempt)
        .join(schema.calculation, c.id == a.calculation_id)
        .join(schema.structure, s.id == c.structure_id)
        .outerjoin(schema.proposal, p.id == a.proposal_id)
        .where(a.started.is_not(None))
    )


def _asked(
    connection: Connection, campaign: int, number: int, calculations: Collection[str] | None = None
) -> list[Row[Any]]:
    p, c = schema.proposal.c, schema.calculation.c
    query = (
        select(p.ordinal, p.kinds, p.calculation_id, c.key)
        .join(schema.calculation, c.id == p.calculation_id)
        .where(p.decision_id == decision_row(connection, campaign, number))
        .order_by(p.ordinal)
    )
    if calculations is None:
        return list(connection.execute(query))
    rows: list[Row[Any]] = []
    for block in blocks(sorted(calculations)):
        rows += connection.execute(query.where(c.key.in_(block)))
    return sorted(rows, key=lambda r: int(r.ordinal))


def _failures(
    connection: Connection, campaign: int, calculations: Mapping[int, str], words: Mapping[str, tuple[str, float]]
) -> Counts:
    """Failed attempts by class; those of other campaigns, those before a new start and those before a `farfield retry`
    burn no budget of this one.

    A lost worker counts where it died under the call: its node may have failed, or gone at its wall time, or the
    controller was killed with it, and that says nothing of the calculation.
    """
    a = schema.attempt.c
    again = _tried_again(connection, campaign)
    out: Counts = {}
    for block in blocks(sorted(calculations)):
        for i, failure, created in connection.execute(
            select(a.calculation_id, a.failure, a.created)
            .where(a.calculation_id.in_(block), a.campaign_id == campaign, a.state == "failed", a.created >= again)
            .where((a.failure != "worker lost") | a.message.startswith(schema.BLAMED, autoescape=True))
        ):
            kind, said = words.get(calculations[i], ("", 0.0))
            if kind != RETRY or created >= said:
                counts = out.setdefault(i, {})
                counts[failure] = counts.get(failure, 0) + 1
    return out


def _tried_again(connection: Connection, campaign: int) -> float:
    """When somebody last resumed the campaign to try what had failed again; 0 for never."""
    e = schema.event.c
    found = connection.scalars(
        select(func.max(e.created)).where(e.campaign_id == campaign, e.kind == TRIED_AGAIN)
    ).one()
    return float(found or 0.0)


def _last_failures(
    connection: Connection, campaign: int, calculations: list[int]
) -> dict[int, tuple[str | None, str | None]]:
    """Class and message of the last failed attempt."""
    a = schema.attempt.c
    out: dict[int, tuple[str | None, str | None]] = {}
    for block in blocks(calculations):
        query = select(a.calculation_id, a.failure, a.message).where(
            a.calculation_id.in_(block), a.campaign_id == campaign, a.state == "failed"
        )
        out.update((i, (failure, message)) for i, failure, message in connection.execute(query.order_by(a.id)))
    return out


def _times(connection: Connection, calculations: list[int]) -> dict[tuple[int, str], tuple[int, float | None]]:
    """(calculation, kind) -> the attempt whose label was accepted, and its core-seconds."""
    a, o = schema.attempt.c, schema.observation.c
    out: dict[tuple[int, str], tuple[int, float | None]] = {}
    for block in blocks(calculations):
        query = (
            select(o.calculation_id, o.kind, a.id, a.core_seconds)
            .join(schema.attempt, a.id == o.attempt_id)
            .where(o.calculation_id.in_(block), o.detail == "")
        )
        out.update(((i, kind), (attempt, seconds)) for i, kind, attempt, seconds in connection.execute(query))
    return out


def _sum(attempts: set[tuple[int, float | None]]) -> float | None:
    """Core-seconds of some attempts together, None where one has none."""
    seconds = [s for _, s in sorted(attempts, key=lambda x: x[0]) if s is not None]
    return sum(seconds) if len(seconds) == len(attempts) else None


def _open(connection: Connection, calculations: list[int]) -> dict[int, list[int]]:
    a = schema.attempt.c
    out: dict[int, list[int]] = {}
    for block in blocks(calculations):
        query = select(a.calculation_id, a.id).where(a.calculation_id.in_(block), a.state.in_(schema.OPEN))
        for i, attempt in connection.execute(query.order_by(a.id)):
            out.setdefault(i, []).append(attempt)
    return out
