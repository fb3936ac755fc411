"""A process that writes to the record, run as a script: ``writer.py VERB URL ATTEMPT ...``.

It claims the attempts it is given, says that it is ready, and begins when it is told.

race: finish them, while other processes finish others of the same calculations, then claim every attempt that waits,
twice over, and finish what was claimed; prints attempts with the kinds accepted.
work: buy the calculations of campaign 1 for ever; prints each attempt once its answer is in the record.
patient: the same, but each transaction is tried again for as long as the server is away, as a worker does.
nest: on every line of input fork a child that works, print its pid, and wait until somebody has killed it; a child that
ends in another way ends the nest too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from itertools import count

import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.processes import process_start
from farfield.oracles.observation import Observations


def answer(seed: int) -> Observations:
    rng = np.random.default_rng(seed)
    return Observations({"E": float(seed), "F": rng.normal(size=(4, 3)), "V": rng.normal(size=6)})


def race(claims: Claims, session: int, mine: list[int]) -> None:
    a = schema.attempt.c
    with claims.database.read() as connection:
        waiting = list(connection.scalars(select(a.id).where(a.state == "waiting").order_by(a.id)))
    for attempt in mine + waiting * 2:
        if attempt in mine or claims.claim(attempt, session):
            accepted = claims.finish(attempt, session, answer(attempt), 1.0)
            print(attempt, "".join(accepted), flush=True)


def work(claims: Claims, session: int, _: list[int]) -> None:
    with claims.database.read() as connection:
        keys = list(connection.scalars(select(schema.calculation.c.key).order_by(schema.calculation.c.id)))
    for turn in count(session * 97):  # each begins elsewhere, so that few are answered already
        key = keys[turn % len(keys)]
        attempt = claims.new_attempt(key, 1, ("E", "F", "V"))
        if claims.claim(attempt, session):
            claims.heartbeat(session)
            claims.finish(attempt, session, answer(attempt), 1.0)
            print(attempt, flush=True)
        else:
            print("answered already", flush=True)


def patient(claims: Claims, session: int, _: list[int]) -> None:
    with claims.database.read() as connection:
        keys = list(connection.scalars(select(schema.calculation.c.key).order_by(schema.calculation.c.id)))
    for turn in count(session * 97):
        key = keys[turn % len(keys)]
        attempt = until(lambda key=key: claims.new_attempt(key, 1, ("E", "F", "V")))
        # a claim that was told to nobody is one that another attempt makes up for
        if until(lambda attempt=attempt: claims.claim(attempt, session)):
            until(lambda attempt=attempt: claims.finish(attempt, session, answer(attempt), 1.0))
            print("told", attempt, flush=True)
        else:
            print("answered already", flush=True)


def until(work):
    while True:
        try:
            return work()
        except (OperationalError, InterfaceError):
            print("again", flush=True)
            time.sleep(0.05)


def nest(url: str) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                sys.exit(f"a child ended by itself with status {status}")
            continue
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no child outlives the test
        print("child", os.getpid(), flush=True)
        with open_database(url) as database:
            claims = Claims(database)
            session = claims.open_session("here", "boot-1", os.getpid(), process_start(os.getpid()) or 0.0)
            work(claims, session, [])


if __name__ == "__main__":
    verb, url, *rest = sys.argv[1:]
    if verb == "nest":
        print("ready", flush=True)
        nest(url)
        sys.exit()
    with open_database(url) as database:
        made = Claims(database)
        mine = made.open_session("here", "boot-1", os.getpid(), process_start(os.getpid()) or 0.0)
        attempts = [int(a) for a in rest]
        for attempt in attempts:
            made.claim(attempt, mine)
        print("ready", flush=True)
        sys.stdin.readline()
        {"race": race, "work": work, "patient": patient}[verb](made, mine, attempts)
