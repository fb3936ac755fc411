"""Two campaigns at once in one database: what one buys is the other's too, also while it is in flight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slow_emt import campaign_file, started
from sqlalchemy import create_engine, func, select

from farfield.db import schema
from farfield.db.engine import open_database
from farfield.db.record import Record


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A record without tables or rows."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shared.db'}"
        return
    server = request.getfixturevalue("postgres")
    yield server
    engine = create_engine(server)
    with engine.begin() as connection:
        schema.metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
    engine.dispose()


def test_two_runs_at_once_pay_for_each_calculation_once(url: str, tmp_path: Path) -> None:
    names = ("left", "right")
    runs = [started(campaign_file(tmp_path, name, url=url, seconds=1.0)) for name in names]
    try:
        for run, name in zip(runs, names, strict=True):
            assert run.wait(timeout=240) == 0, (tmp_path / f"{name}.txt").read_text(encoding="utf-8")
    finally:
        for run in runs:
            if run.poll() is None:
                run.kill()
                run.wait(timeout=30)
    with open_database(url, readonly=True) as database:
        record = Record(database)
        ids = [record.campaign(name).id for name in names]
        wanted = [{p.calculation for d in record.decisions(i) for p in d.proposals} for i in ids]
        paid = [record.cost(i).by_state for i in ids]
        with database.read() as connection:
            a = schema.attempt.c
            ran = connection.execute(
                select(a.calculation_id, func.count()).where(a.started.is_not(None)).group_by(a.calculation_id)
            ).all()
            both = connection.scalars(
                select(func.count(func.distinct(a.campaign_id))).where(a.state == "finished")
            ).one()
    assert wanted[0] == wanted[1]  # the same seed and the same answers
    assert {n for _, n in ran} == {1}
    assert len(ran) == len(wanted[0])
    assert [set(p) for p in paid if p] == [{"finished"}] * both
    assert both == 2, "one of the two bought everything: they did not run at once"
