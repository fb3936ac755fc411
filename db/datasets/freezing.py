"""Freeze a selection under a name, list what is frozen, and verify it years later."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, insert, select, update

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.calculations import insert_new
from farfield.db.clock import now
from farfield.db.datasets.families import Families, assigned, check_parts
from farfield.db.engine import Database
from farfield.db.identity import calculation_key, structure_bytes, structure_key
from farfield.db.query import Labelled
from farfield.db.query import select as select_query
from farfield.errors import RecordError

__all__ = ["Frozen", "datasets", "digest", "find", "freeze", "verify"]

PAGE = 500
DONE = "frozen"


@dataclass(frozen=True)
class Frozen:
    """A frozen dataset: its digest is the sha256 over those of its members. `parts`: members of each part of the split;
    `created`: seconds since 1970."""

    id: int
    name: str
    query: str
    members: int
    digest: str
    parts: dict[str, int]
    content: dict[str, Any]
    created: float


def digest(row: Labelled) -> str:
    """sha256 of the calculation's key, the kinds and their values bit for bit, hexadecimal."""
    values = row.labels
    hashed = hashlib.sha256(f"{row.calculation}/{','.join(values.kinds)}/".encode())
    for value in (values.energy, values.forces, values.virial):
        if value is not None:
            hashed.update(np.ascontiguousarray(value, dtype="<f8").tobytes())
    return hashed.hexdigest()


def freeze(
    database: Database,
    name: str,
    query: str = "",
    *,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    doubted: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Frozen:
    """Pin the labels that fit `query` now, in their order, under `name`. `split`: shares of named parts.

    Nothing is to be seen of it before it is whole; one that was killed on the way is begun again. `progress` is called
    with the number of members so far. Raises RecordError for a name that is taken, an empty selection, labels of
    several oracles, or a split that its families do not fill.
    """
    if split:
        check_parts(split)
    chosen = select_query(database, query, doubted=doubted)
    dataset = _begin(database, name, query)
    hashed, count, oracles = hashlib.sha256(), 0, set()
    families, kinds = Families(), Counter[str]()
    numbers: list[int] = []
    named: dict[int, str] = {}
    for page in _pages(chosen):
        rows = []
        for row in page:
            mark = digest(row)
            meta = {k: getattr(row, k) for k in ("campaign", "decision", "ordinal", "role", "term", "rung")}
            if split:
                numbers.append(families.add(row.structure_atoms()))
                named.setdefault(numbers[-1], row.structure)
            held = ",".join(row.labels.kinds)
            rows.append(
                {
                    "dataset_id": dataset,
                    "ordinal": count,
                    "calculation_id": row.id,
                    "kinds": held,
                    "meta": meta,
                    "digest": mark,
                }
            )
            hashed.update(mark.encode())
            kinds.update(row.labels.kinds)
            oracles.add(row.fingerprint)
            count += 1
        if len(oracles) > 1:
            _drop(database, dataset)
            names = " and ".join(sorted(o[:12] for o in oracles))
            raise RecordError(
                f"the labels are of more than one oracle ({names}), which no fit may mix; select by fingerprint"
            )
        with database.write(relaxed=True) as connection:
            connection.execute(insert(schema.dataset_member), rows)
        if progress is not None:
            progress(count)
    try:
        if not count:
            raise RecordError("nothing to freeze: no label fits the query; look with `farfield ls`")
        parts = _split(numbers, families, named, split, seed) if split else []
    except RecordError:
        _drop(database, dataset)
        raise
    if parts:
        _set_parts(database, dataset, parts)
    content = {
        "state": DONE,
        "split": dict(split or {}),
        "seed": seed if split else None,
        "parts": dict(Counter(parts)),
        "families": len({families.of(n) for n in numbers}) if split else None,
        "labels": {k: kinds[k] for k in ("E", "F", "V")},
        "fingerprint": oracles.pop(),
        "doubted": doubted,
    }
    t = schema.dataset.c
    with database.write() as connection:
        connection.execute(
            update(schema.dataset)
            .where(t.id == dataset)
            .values(members=count, digest=hashed.hexdigest(), content=content, created=now())
        )
    return find(database, name)


def datasets(database: Database) -> list[Frozen]:
    """Every frozen dataset, oldest first."""
    t = schema.dataset.c
    with database.read() as connection:
        rows = connection.execute(select(schema.dataset).where(t.digest != "").order_by(t.id)).all()
    return [
        Frozen(r.id, r.name, r.query, r.members, r.digest, r.content.get("parts", {}), r.content, r.created)
        for r in rows
    ]


def find(database: Database, name: str) -> Frozen:
    """The dataset called `name`. Raises RecordError where there is none."""
    every = datasets(database)
    for frozen in every:
        if frozen.name == name:
            return frozen
    there = ", ".join(f.name for f in every) or "none yet"
    raise RecordError(f"there is no dataset {name!r} in this database; it holds {there}")


def verify(database: Database, name: str) -> list[str]:
    """What does not agree with what was pinned, a line each: values, structures or members that changed."""
    from farfield.db.datasets.members import members

    frozen = find(database, name)
    faults, hashed, count = [], hashlib.sha256(), 0
    pinned = _pinned(database, frozen)
    for row in members(database, name):
        mark = next(pinned)
        if digest(row) != mark:
            faults.append(f"member {count}, calculation {row.calculation[:12]}: its labels are not the pinned ones")
        key = structure_key(structure_bytes(row.structure_atoms()))
        if key != row.structure or calculation_key(key, row.fingerprint) != row.calculation:
            faults.append(f"member {count}, calculation {row.calculation[:12]}: its structure has changed")
        hashed.update(mark.encode())
        count += 1
    if count != frozen.members or hashed.hexdigest() != frozen.digest:
        faults.append(f"{count} members of {frozen.members}, whose digests do not add up to the pinned one")
    return faults


def _pinned(database: Database, frozen: Frozen) -> Iterator[str]:
    m = schema.dataset_member.c
    for start in range(0, frozen.members + 1, PAGE):
        with database.read() as connection:
            yield from connection.scalars(
                select(m.digest)
                .where(m.dataset_id == frozen.id, m.ordinal >= start, m.ordinal < start + PAGE)
                .order_by(m.ordinal)
            ).all()


def _pages(rows: Any) -> Iterator[list[Labelled]]:
    page: list[Labelled] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _begin(database: Database, name: str, query: str) -> int:
    """The row of a dataset that is being frozen; what a killed freeze left behind is cleared away first."""
    if not name.strip() or len(name) > 200 or any(ord(x) < 32 for x in name):
        raise RecordError("a dataset needs a name of up to 200 printable characters")
    t = schema.dataset.c
    with database.write() as connection:
        old = connection.execute(select(t.id, t.digest).where(t.name == name)).one_or_none()
        if old is not None and old.digest:
            raise RecordError(f"there is a dataset {name!r} already, and what is frozen stays; choose another name")
    if old is not None:
        _drop(database, old.id)
    values = {"name": name, "query": query, "members": 0, "digest": "", "content": {}, "created": now()}
    with database.write() as connection:
        new = connection.scalars(insert_new(connection, schema.dataset).values(values).returning(t.id)).one_or_none()
        if new is None:
            raise RecordError(f"another process is freezing {name!r}; choose another name")
        return int(new)


def _drop(database: Database, dataset: int) -> None:
    m, t = schema.dataset_member.c, schema.dataset.c
    with database.write() as connection:
        connection.execute(delete(schema.dataset_member).where(m.dataset_id == dataset))
        connection.execute(delete(schema.dataset).where(t.id == dataset, t.digest == ""))


def _split(
    numbers: list[int], families: Families, named: dict[int, str], split: Mapping[str, float], seed: int
) -> list[str]:
    mine = [families.of(n) for n in numbers]
    chosen = assigned(Counter(mine), named, split, seed)
    return [chosen[f] for f in mine]


def _set_parts(database: Database, dataset: int, parts: list[str]) -> None:
    m = schema.dataset_member.c
    for name in sorted(set(parts)):
        mine = [i for i, part in enumerate(parts) if part == name]
        for block in blocks(mine):
            with database.write(relaxed=True) as connection:
                connection.execute(
                    update(schema.dataset_member).where(m.dataset_id == dataset, m.ordinal.in_(block)).values(part=name)
                )
