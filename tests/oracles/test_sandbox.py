"""The sandbox against oracles that really misbehave: each ends in its own failure class and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from processes import gone, soon, working_in

from farfield.errors import OracleCrash, OracleError, OracleTimeout
from farfield.oracles.child import decode_call, encode_call
from farfield.oracles.emt import EMTOracle
from farfield.oracles.sandbox import Sandbox
from farfield.oracles.supervisor import LOG_LIMIT, descendants
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Stop
from farfield.service.campaign.loop import Loop

HERE = Path(__file__).parent
Make = Callable[..., Sandbox]


def cell() -> Atoms:
    return bulk("Cu", cubic=True)


def below(sandbox: Sandbox) -> list[int]:
    """Everything below the supervisor; zombies too, since one may still have a living thread."""
    assert sandbox.pid is not None
    return descendants(sandbox.pid, zombies=True)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Sandboxes of `misbehaving`; after the test no process of theirs may be left in /proc."""
    monkeypatch.syspath_prepend(str(HERE))
    boxes: list[Sandbox] = []

    def sandbox(name: str, wall_time: float = 20.0, memory_mb: float = 2000.0, **parameters: Any) -> Sandbox:
        boxes.append(Sandbox(f"misbehaving:{name}", parameters, wall_time, memory_mb, tmp_path / "scratch"))
        return boxes[-1]

    before = set(descendants(os.getpid()))
    yield sandbox
    seen = [p for b in boxes if b.pid is not None for p in [b.pid, *below(b)]]
    for box in boxes:
        box.close()
    assert gone(seen)
    assert soon(lambda: not working_in(tmp_path))
    assert set(descendants(os.getpid())) <= before
    left = {p.name for p in (tmp_path / "scratch").glob("*")}
    assert left <= {"failed", "output"}  # folder and log are removed


def test_same_answer_as_in_process(tmp_path: Path) -> None:
    atoms = cell() * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    kinds = ("E", "F", "V")
    direct = EMTOracle().evaluate(atoms, kinds)
    with Sandbox("emt", {}, 20, 2000, tmp_path) as sandbox:
        for _ in range(2):
            answer = sandbox.evaluate(atoms, kinds)
            for kind in kinds:
                assert np.array_equal(answer.values[kind], direct.values[kind])


def test_one_child_answers_many_calls_in_its_scratch(make: Make, tmp_path: Path) -> None:
    sandbox = make("Sound")
    answers = [sandbox.evaluate(cell(), ("E",)) for _ in range(5)]
    assert [a.values["E"] for a in answers] == [1, 2, 3, 4, 5]
    assert len({a.settings["pid"] for a in answers}) == 1
    folders = [Path(a.settings["folder"]) for a in answers]
    assert len(set(folders)) == 5
    assert {f.parents[1] for f in folders} == {tmp_path / "scratch"}
    assert not any(f.exists() for f in folders)


def test_magnetic_moments_cross() -> None:
    atoms = cell()
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    back, kinds, folder = decode_call(encode_call(atoms, ("E", "F"), "/scratch/x"))
    assert (kinds, folder) == (("E", "F"), "/scratch/x")
    assert back == atoms
    assert np.array_equal(back.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())


def test_segfault(make: Make) -> None:
    sandbox = make("Segfaulting")
    with pytest.raises(OracleCrash, match="signal 11") as fault:
        sandbox.evaluate(cell(), ("E",))
    assert (fault.value.failure, fault.value.exitcode) == ("crashed", -signal.SIGSEGV)
    assert below(sandbox) == []


def test_exit_is_told_with_its_last_words_and_the_next_call_has_a_new_child(make: Make) -> None:
    sandbox = make("Exiting")
    first = sandbox.evaluate(cell(), ("E",))
    above = cell()
    above.positions += 2.0
    with pytest.raises(OracleCrash, match="exit code 7; it said: the licence server said no") as fault:
        sandbox.evaluate(above, ("E",))
    assert fault.value.exitcode == 7
    second = sandbox.evaluate(cell(), ("E",))
    assert second.values["E"] == 1
    assert second.settings["pid"] != first.settings["pid"]


def test_death_is_seen_though_a_fork_holds_the_pipe(make: Make) -> None:
    sandbox = make("ForkedAndGone")
    with pytest.raises(OracleCrash, match="exit code 3"):
        sandbox.evaluate(cell(), ("E",))
    assert below(sandbox) == []


@pytest.mark.parametrize("name", ["Endless", "EndlessInC", "Stubborn", "Fleeing", "Headless"])
def test_wall_time(make: Make, tmp_path: Path, name: str) -> None:
    sandbox = make(name, wall_time=0.7)
    with pytest.raises(OracleTimeout, match=r"within 0\.7 s") as fault:
        sandbox.evaluate(cell(), ("E",))
    assert fault.value.failure == "timed out"
    assert below(sandbox) == []
    assert working_in(tmp_path) == []


def test_memory_of_a_grandchild(make: Make) -> None:
    sandbox = make("Bomb", memory_mb=400)
    with pytest.raises(OracleCrash, match="more than 400 MB") as fault:
        sandbox.evaluate(cell(), ("E",))
    assert fault.value.failure == "out of memory"
    assert below(sandbox) == []


def test_noise_cannot_damage_an_answer(make: Make) -> None:
    sandbox = make("Noisy")
    assert sandbox.evaluate(cell(), ("E", "F")).values["E"] == 1
    assert "the last word" in sandbox.output
    (log,) = sandbox._folder.parent.glob("*.log")
    assert log.stat().st_size < LOG_LIMIT + 10_000


@pytest.mark.parametrize(
    "failure", ["not converged", "not supported", "input error", "bad answer", "out of memory", "timed out"]
)
def test_the_class_that_the_oracle_names_is_kept(make: Make, failure: str) -> None:
    with pytest.raises(OracleError, match="as asked") as fault:
        make("Failing", failure=failure).evaluate(cell(), ("E",))
    assert fault.value.failure == failure


def test_an_exception_is_a_crash_in_one_line_and_the_child_lives_on(make: Make) -> None:
    sandbox = make("Raising")
    for _ in range(2):
        with pytest.raises(OracleError, match="RuntimeError: the basis is linearly dependent") as fault:
            sandbox.evaluate(cell(), ("E",))
        assert fault.value.failure == "crashed"
    assert "Traceback" in sandbox.output
    assert len(below(sandbox)) == 1


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("nan forces", "bad answer"),
        ("wrong shape", "bad answer"),
        ("one atom too few", "bad answer"),
        ("net force", "bad answer"),
        ("nothing", "bad answer"),
        ("objects", "bad answer"),
        ("not converged", "not converged"),
    ],
)
def test_wrong_answers_have_their_class(make: Make, fault: str, failure: str) -> None:
    sandbox = make("Answering", fault=fault)
    with pytest.raises(OracleError) as raised:
        sandbox.evaluate(cell(), ("E", "F"), gated=True)
    assert raised.value.failure == failure


def test_a_kind_left_out_is_said_to_be_missing(make: Make) -> None:
    answer = make("Answering", fault="silent").evaluate(cell(), ("E", "F"))
    assert answer.kinds == ("E",)
    assert "not supported" in answer.missing["F"]


def test_an_oracle_that_cannot_be_made(make: Make) -> None:
    sandbox = make("Unloadable")
    for _ in range(2):
        with pytest.raises(OracleError, match="no such pseudopotential") as fault:
            sandbox.evaluate(cell(), ("E",))
        assert fault.value.failure == "input error"


def test_an_import_that_hangs(make: Make) -> None:
    sandbox = make("SlowToLoad")
    sandbox.startup = 1.0
    with pytest.raises(OracleError, match="loaded within 1 s") as fault:
        sandbox.evaluate(cell(), ("E",))
    assert fault.value.failure == "worker lost"  # its file system may be slow: no calculation has run out of time
    assert below(sandbox) == []


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_cancel_and_close_from_another_thread(make: Make, tmp_path: Path, end: str) -> None:
    sandbox = make("Fleeing")
    seen: list[int] = []

    def fled() -> bool:
        seen[:] = working_in(tmp_path)
        return len(seen) == 2  # the child, and the process that fled

    def stop() -> None:
        soon(fled)
        getattr(sandbox, end)()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(OracleError) as fault:
        sandbox.evaluate(cell(), ("E",))
    thread.join()
    assert fault.value.failure == "worker lost"
    assert len(seen) == 2
    assert gone(seen)


def test_an_interrupted_call_does_not_answer_the_next(make: Make, tmp_path: Path) -> None:
    sandbox = make("Delayed")
    first = sandbox.evaluate(cell(), ("E",))

    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        soon(lambda: bool(list(tmp_path.rglob("second"))))
        signal.pthread_kill(main, signal.SIGUSR1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            sandbox.evaluate(cell(), ("E",))
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert first.values["E"] == 1
    assert sandbox.evaluate(cell(), ("E",)).values["E"] == 1  # of a new child, not the second of the old one


def test_a_cancel_without_a_call_costs_only_the_child(make: Make) -> None:
    sandbox = make("Sound")
    sandbox.cancel()
    first = sandbox.evaluate(cell(), ("E",))
    sandbox.cancel()
    assert sandbox.evaluate(cell(), ("E",)).settings["pid"] != first.settings["pid"]


def test_what_an_oracle_leaves_behind_goes_with_the_sandbox(make: Make) -> None:
    sandbox = make("Leaving")
    sandbox.evaluate(cell(), ("E",))
    left = below(sandbox)
    assert len(left) == 2
    sandbox.close()
    assert gone(left)


def test_nothing_outlives_a_killed_worker(tmp_path: Path) -> None:
    code = (
        "import sys, threading, time; sys.path.insert(0, sys.argv[1])\n"
        "from ase.build import bulk\n"
        "from farfield.oracles.sandbox import Sandbox\n"
        "box = Sandbox('misbehaving:Fleeing', {}, 600, 2000, sys.argv[2])\n"
        "threading.Thread(target=box.evaluate, args=(bulk('Cu'), ('E',)), daemon=True).start()\n"
        "while box.pid is None: time.sleep(0.01)\n"
        "print(box.pid, flush=True); time.sleep(600)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(HERE), str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    supervisor = int(worker.stdout.readline())
    assert soon(lambda: len(working_in(tmp_path)) == 2)
    seen = working_in(tmp_path)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert gone([supervisor, *seen])


def shaken(seed: int) -> Atoms:
    atoms = cell()
    atoms.rattle(0.1, seed=seed)
    return atoms


def test_the_answer_to_the_last_cell_is_a_bad_answer(make: Make) -> None:
    sandbox = make("Leftover")
    for seed in (0, 2):
        assert sandbox.evaluate(shaken(seed), ("E", "F")).kinds == ("E", "F")
        with pytest.raises(OracleError, match="bit for bit") as fault:
            sandbox.evaluate(shaken(seed + 1), ("E", "F"))
        assert fault.value.failure == "bad answer"


def test_the_same_crystal_may_have_the_same_answer(make: Make) -> None:
    sandbox = make("Leftover")
    atoms = shaken(0)
    sandbox.evaluate(atoms, ("E", "F"))
    atoms.positions += atoms.cell.array[0]
    assert sandbox.evaluate(atoms, ("E", "F")).kinds == ("E", "F")


def test_forces_of_the_wrong_sign_stop_a_campaign_before_its_first_paid_round(make: Make) -> None:
    """No gate can see it in one answer: the opening's displaced pair does (decisions A10)."""
    sandbox = make("WrongSign")
    config = CampaignConfig.from_mapping({"host": {"lattice_constant": 3.59}, "target": {"size": 4}})
    loop = Loop(config, OracleInfo("wrong sign"))
    decision = loop.ask()
    assert isinstance(decision, Decision)
    answers = []
    for p in decision.proposals:
        v = sandbox.evaluate(p.atoms, p.kinds, gated=True).values
        answers.append(Answer(p.ordinal, str(p.ordinal), v.get("E"), v.get("F"), v.get("V")))  # type: ignore[arg-type]
    loop.tell(decision, answers)
    stop = loop.ask()
    assert isinstance(stop, Stop)
    assert stop.exit_code == 1
    assert stop.reason.startswith("bad answer: the oracle's forces are not -dE/dx")


def test_a_stress_that_is_left_out_is_not_supported_and_the_rest_is_kept(make: Make) -> None:
    sandbox = make("Stressless")
    answer = sandbox.evaluate(shaken(0), ("E", "F", "V"), gated=True)
    assert answer.kinds == ("E", "F")
    with pytest.raises(OracleError, match="V: not supported") as fault:
        sandbox.evaluate(shaken(0), ("V",), gated=True)
    assert fault.value.failure == "not supported"


def test_a_program_that_flees_is_ended_with_all_it_started(make: Make, tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)\n"
        "print('x' * 3_000_000, flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-S", "-c", code, "{input}", "{output}"]
    parameters = {"command": command, "version": "1"}
    with Sandbox("command", parameters, 5.0, 2000, tmp_path / "program") as sandbox:
        with pytest.raises(OracleTimeout):
            sandbox.evaluate(cell(), ("E",), call="f")
        assert below(sandbox) == []
        assert working_in(tmp_path) == []
    kept = tmp_path / "program" / "failed" / "f"
    assert {p.name for p in kept.iterdir()} == {"input.xyz", "output.log"}
    assert (kept / "output.log").stat().st_size <= LOG_LIMIT
