"""How a PostgreSQL server is reached, also through a pool of connections such as PgBouncer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import URL

__all__ = ["PATIENCE", "server_engine"]

PATIENCE = {
    "connect_timeout": 10,  # s
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # ms
}
"""Of a connection to PostgreSQL, unless its URL says otherwise. A server whose host is gone without a word is away
after a minute; the system's own patience is two hours."""

STANDSTILL_SECONDS = 60
"""A process that is suspended in the midst of a transaction that writes is cut off after so long: others wait for the
rows it has locked. When it goes on it tries again."""


def server_engine(url: URL, *, durable: bool = True) -> Engine:
    """An engine on the database at `url`. Not `durable`: what it commits may be lost with the server's power."""
    patience = {name: value for name, value in PATIENCE.items() if name not in url.query}
    engine = create_engine(url, pool_pre_ping=True, pool_size=2, connect_args=patience)

    @event.listens_for(engine, "connect")
    def reached(connection: psycopg.Connection[Any], _: Any) -> None:
        if _pooled(connection):
            connection.prepare_threshold = None

    # of each transaction, not of the connection, which a pool between us and the server may give to others
    begins = f"SET LOCAL idle_in_transaction_session_timeout = {1000 * STANDSTILL_SECONDS}"
    if not durable:
        begins += "; SET LOCAL synchronous_commit = off"

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("farfield_read") and options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql(begins)

    return engine


def _pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pool stands between us and the server: the process that answers is not the one that welcomed us.

    Each transaction may then meet another of the server's processes, which knows no statement that was prepared in an
    earlier one.
    """
    connection.autocommit = True
    answer = connection.execute("SELECT pg_backend_pid()").fetchone()
    connection.autocommit = False
    return answer is None or answer[0] != connection.info.backend_pid
