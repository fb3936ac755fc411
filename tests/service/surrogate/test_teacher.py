"""A saved surrogate as oracle: the same numbers, no noise, and a campaign that learns it to the last digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from farfield.errors import OracleError, OracleParameterError
from farfield.oracles import contract, registry
from farfield.oracles.contract import periodic_cell
from farfield.oracles.emt import EMTOracle
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.sandbox import Sandbox
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.cli.opening import open_campaign
from farfield.service.runner.recording import oracle_info
from farfield.service.runner.runner import order_for
from farfield.service.surrogate import Basis, Surrogate
from farfield.service.surrogate.teacher import TeacherOracle

CONFIG = CampaignConfig.from_mapping(
    {
        "host": {"lattice_constant": 3.59},  # given, so that pupil and teacher have the same basis
        "target": {"size": 4, "tol_geo": 0.01, "tol_energy": 0.01},
        "surrogate": {"level": 0, "max_level": 0},
    }
)


def play(oracle: EMTOracle | TeacherOracle, rounds: int) -> tuple[Loop, Stop | None, list[Atoms]]:
    """A campaign in this process; its loop, why it stopped, and the cells it bought."""
    loop, bought = Loop(CONFIG, oracle_info(oracle)), []
    for _ in range(rounds):
        asked = loop.ask()
        if not isinstance(asked, Decision):
            return loop, asked, bought
        answers = []
        for p in asked.proposals:
            v = oracle.evaluate(p.atoms, p.kinds).values
            answers.append(Answer(p.ordinal, f"c{p.ordinal}", v.get("E"), v.get("F"), v.get("V")))  # type: ignore[arg-type]
            bought.append(p.atoms)
        loop.tell(asked, answers)
    return loop, None, bought


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A surrogate fitted to EMT copper by the first rounds of a campaign."""
    loop, _, _ = play(EMTOracle(), 2)
    assert loop.surrogate is not None
    path = tmp_path_factory.mktemp("teacher") / "cu.farfield"
    loop.surrogate.save(path)
    return str(path)


def test_a_campaign_learns_its_teacher(file: str) -> None:
    """The same basis reaches it: every estimated error and every true one goes to zero, and the campaign stops."""
    teacher = TeacherOracle(file)
    loop, stop, bought = play(teacher, 12)
    assert stop is not None
    assert stop.converged
    assert loop.surrogate is not None
    for e in loop.state.estimates:
        assert e["eta_geo"] < 2e-4
        assert abs(e["eta_energy"]) < 1e-5
    unseen = bulk("Cu", a=3.6, cubic=True) * (3, 3, 3)
    del unseen[5]
    unseen.rattle(0.08, seed=11)
    true = teacher.evaluate(unseen, ("E", "F", "V")).values
    energy, forces, virial = loop.surrogate.evaluate(unseen)
    assert abs(energy - float(true["E"])) < 1e-4 * len(unseen)
    assert np.abs(forces - true["F"]).max() < 1e-3
    assert np.abs(virial - true["V"]).max() < 1e-3 * len(unseen)
    emt = EMTOracle().evaluate(unseen, ("F",)).values["F"]
    assert np.abs(np.asarray(emt) - true["F"]).max() > 2e-2  # it is the teacher that was learnt, not EMT
    assert len(bought) < 60


def test_it_fulfils_the_contract(file: str) -> None:
    results = contract.run(TeacherOracle(file), periodic_cell("fcc", "Cu"))
    assert {r.name for r in results if not r.passed} == {"energies across meshes", "noise", "time of a call"}, results


def test_it_is_registered_and_runs_in_the_sandbox(file: str, tmp_path: Path) -> None:
    atoms = periodic_cell("fcc", "Cu")
    direct = registry.load("teacher", {"file": file}).evaluate(atoms, ("E", "F", "V")).values
    with Sandbox("teacher", {"file": file}, 60, 2000, tmp_path) as sandbox:
        answer = sandbox.evaluate(atoms, ("E", "F", "V")).values
    for k in ("E", "F", "V"):  # two processes may have compiled the kernels each for itself: not the last bits
        assert np.allclose(answer[k], direct[k], rtol=1e-12, atol=1e-12)


def test_the_fingerprint_is_the_content_not_the_place(file: str, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    copy.write_bytes(Path(file).read_bytes())
    basis = Basis(("Cu",), 2.5, 2.0, (2, 3, 3))
    Surrogate(basis, np.ones(basis.size)).save(other)
    assert fingerprint_hash(TeacherOracle(file)) == fingerprint_hash(TeacherOracle(str(copy)))
    assert fingerprint_hash(TeacherOracle(file)) != fingerprint_hash(TeacherOracle(str(other)))


def test_refusals_are_one_line(file: str, tmp_path: Path) -> None:
    (tmp_path / "no-surrogate").write_bytes(b"FARFIELD but no more")
    for given, message in (("nowhere.farfield", "cannot be read"), (str(tmp_path / "no-surrogate"), "no surrogate")):
        with pytest.raises(OracleParameterError, match=message) as load:
            registry.load("teacher", {"file": given})
        assert load.value.key == "oracle.parameters.file"
        assert "\n" not in str(load.value)
    teacher = TeacherOracle(file)
    with pytest.raises(OracleError, match="knows Cu and not Al") as species:
        teacher.check_species(["Cu", "Al"])
    with pytest.raises(OracleError) as asked:
        teacher.evaluate(bulk("Al"), ("E",))
    assert species.value.failure == asked.value.failure == "input error"


def test_its_file_counts_from_the_campaign_file(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from another folder, loaded here, and in the worker's sandbox, the same relative path is found."""
    folder = tmp_path / "campaign"
    folder.mkdir()
    (folder / "cu.farfield").write_bytes(Path(file).read_bytes())
    (folder / "c.toml").write_text('[oracle]\nname = "teacher"\nparameters = { file = "cu.farfield" }\n')
    monkeypatch.chdir(tmp_path)
    config, oracle = open_campaign(Path("campaign/c.toml"))
    assert fingerprint_hash(oracle) == fingerprint_hash(TeacherOracle(file))
    with Sandbox(config.oracle.name, config.oracle.parameters, 60, 2000, tmp_path, base=config.base) as sandbox:
        assert sandbox.evaluate(periodic_cell("fcc", "Cu"), ("E",)).kinds == ("E",)
    order = order_for(config, "", 1, "key", periodic_cell("fcc", "Cu"), ("E",))
    assert Path(order.base) == folder
