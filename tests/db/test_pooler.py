"""PostgreSQL behind a pool of connections: each transaction may meet another of the server's processes."""

from __future__ import annotations

import threading

from pooler import pooled
from postgres import served
from sqlalchemy import select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.db.sessions import LEASE_SECONDS

THREADS, CALLS = 8, 12
"""More threads than the pool has connections, and more calls than a driver needs to prepare their statements."""


def prepares(database: Database) -> bool:
    """Whether statements are prepared on its connections."""
    with database.engine.connect() as connection:
        return connection.connection.driver_connection.prepare_threshold is not None


def test_only_a_server_that_is_met_itself_knows_prepared_statements() -> None:
    with served() as server, pooled(server) as url:
        for where, direct in ((server.url, True), (url, False)):
            with open_database(where, create=True) as database:
                assert prepares(database) is direct


def test_many_who_share_few_connections_claim_each_attempt_once(decide) -> None:
    with served() as server, pooled(server) as url, open_database(url, create=True) as database:
        record = Record(database)
        campaign = record.create_campaign("campaign", {}, {"adapter": "emt", "version": 1})
        keys = record.store_decision(campaign, decide(0, CALLS))
        attempts = [Claims(database).new_attempt(key, campaign, ("E", "F")) for key in keys]
        won: list[list[int]] = []

        def work(number: int) -> None:
            with open_database(url) as mine:
                claims = Claims(mine)
                session = claims.open_session("here", "boot-1", number, 1.0)
                own = []
                for attempt in attempts:
                    assert claims.heartbeat(session) == []  # nothing of its was cancelled
                    if claims.claim(attempt, session):
                        own.append(attempt)
                assert claims.alive([session], LEASE_SECONDS) == [session]
                won.append(own)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, THREADS + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == THREADS
        assert sorted(a for own in won for a in own) == attempts
        with database.read() as connection:
            assert set(connection.scalars(select(schema.attempt.c.state))) == {"running"}
