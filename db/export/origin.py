"""Where the rows of an export come from: a query, the fields of a selection, or a frozen dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from farfield.db.campaigns import kept_out
from farfield.db.datasets import find, members
from farfield.db.engine import Database
from farfield.db.query import Labelled, Selection, select_labelled

__all__ = ["Origin", "of_dataset", "of_selection"]


@dataclass(frozen=True)
class Origin:
    """`rows` streams them anew on every call; `said` describes them in the manifest; `left_out`: keys that a campaign
    withdrew, which are counted and not written."""

    rows: Callable[[], Iterator[Labelled]]
    said: dict[str, Any]
    left_out: frozenset[str] = frozenset()


def of_selection(database: Database, wanted: Selection) -> Origin:
    """The labels of a selection."""
    with database.read() as connection:
        out = set() if wanted.doubted else kept_out(connection, wanted.campaign)
    said = {k: v for k, v in asdict(wanted).items() if v is not None}
    whole = replace(wanted, doubted=True)
    return Origin(lambda: select_labelled(database, whole), {"selection": said}, frozenset(out))


def of_dataset(database: Database, name: str, part: str | None = None) -> Origin:
    """The members of a frozen dataset, or of a part of it. Raises RecordError where there is none."""
    frozen = find(database, name)
    members(database, name, part)  # an unknown part is refused before anything is written
    said = {"name": name, "query": frozen.query, "digest": frozen.digest, "part": part, "members": frozen.members}
    return Origin(lambda: members(database, name, part), {"dataset": said})
