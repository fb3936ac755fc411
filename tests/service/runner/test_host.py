"""Which process is meant: a pid means something within one boot of one host, and there within one container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from places import another_container

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.sessions import LEASE_SECONDS
from farfield.service.runner.host import this_host
from farfield.service.runner.session import Session

HOLDS = """
import sys
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.service.runner.session import Session
with open_database(sys.argv[1]) as database, Session(Claims(database)) as session:
    print(session.id, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("contained", [True, False])
def test_only_a_process_that_we_would_see_is_known_to_be_dead(tmp_path: Path, contained: bool) -> None:
    """One in a container has a pid that is nobody's here, or somebody else's, and lives."""
    url = f"sqlite:///{tmp_path / 'campaign.db'}"
    prefix = another_container() if contained else []
    with open_database(url, create=True) as database, Session(Claims(database)) as ours:
        claims = Claims(database)
        command = [*prefix, sys.executable, "-c", HOLDS, url]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout is not None
            session = int(holder.stdout.readline())
            claims.release_dead(*this_host())
            assert claims.alive([ours.id, session], LEASE_SECONDS) == [ours.id, session]
        finally:
            holder.kill()
            holder.communicate()
        claims.release_dead(*this_host())
        known = [ours.id, session] if contained else [ours.id]  # of the other it is known once its lease runs out
        assert claims.alive([ours.id, session], LEASE_SECONDS) == known
