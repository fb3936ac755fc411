"""What an export must survive: places that are taken, full disks, interruptions, awkward cells and names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from ase.io import read

from farfield.db.engine import open_database
from farfield.db.export import FORMATS, Keys, Origin, of_selection, write, write_extxyz
from farfield.db.query import Selection, select_labelled
from farfield.errors import RecordError
from farfield.oracles.observation import Observations

ROWS = [name for name, form in FORMATS.items() if not form.displaced]


@pytest.fixture
def origin(record, emt_cells):
    return of_selection(record.database, Selection(campaign="first"))


@pytest.fixture
def bought(record, claims, session, decide):
    """Stores kinds of one cell under an oracle of its own; where its rows come from."""

    def buy(atoms: Atoms, **values: object) -> Origin:
        campaign = record.create_campaign("own", {}, {"adapter": "own"})
        decided = decide(0, 1)
        object.__setattr__(decided.proposals[0], "atoms", atoms)
        (key,) = record.store_decision(campaign, decided)
        attempt = claims.new_attempt(key, campaign, tuple(values))
        claims.claim(attempt, session)
        claims.finish(attempt, session, Observations(values), 1.0)
        return of_selection(record.database, Selection(campaign="own"))

    return buy


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_record_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    (tmp_path / "link.db").symlink_to(path)
    with open_database(f"sqlite:///{path}", create=True) as own:
        before = path.read_bytes()
        for place in (path, tmp_path / "link.db"):
            with pytest.raises(RecordError, match="the database itself"):
                write(place, own, Origin(lambda: iter(()), {}), "ase")
    assert path.read_bytes() == before


@pytest.mark.parametrize("form", ROWS)
def test_an_interruption_leaves_what_was_there(record, origin, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def broken():
        yield from list(origin.rows())[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(out / "data", record.database, Origin(broken, {}), form)
    assert content(out) == {}
    write(out / "data", record.database, origin, form)
    before = content(out)
    with pytest.raises(KeyboardInterrupt):
        write(out / "data", record.database, Origin(broken, {}), form)
    assert content(out) == before
    shorter = write(out / "data", record.database, Origin(lambda: iter(list(origin.rows())[:1]), {}), form)
    assert shorter.structures == 1
    assert {p.name for p in out.iterdir()} == {"data", shorter.manifest.name}


def test_a_folder_whose_new_self_cannot_come_stays(record, origin, tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "systems", record.database, origin, "deepmd")
    before = content(tmp_path / "systems")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(RecordError, match="Permission denied"):
        write(tmp_path / "systems", record.database, origin, "deepmd")
    assert content(tmp_path / "systems") == before


def test_formats_of_one_name_keep_their_manifests(record, origin, tmp_path: Path) -> None:
    done = [
        write(tmp_path / f"data{FORMATS[f].suffixes[0]}", record.database, origin, f) for f in ROWS if f != "deepmd"
    ]
    assert len({d.manifest for d in done}) == len(done)
    assert all(json.loads(d.manifest.read_text(encoding="utf-8"))["file"] == d.path.name for d in done)


FULL = """
import hashlib, resource, signal, sys
from dataclasses import replace
from pathlib import Path
from farfield.db.engine import open_database
from farfield.db.export import Origin, write
from farfield.db.query import select_labelled
from farfield.errors import RecordError
import h5py, pyarrow.parquet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
url, path, form = sys.argv[1:]
with open_database(url, readonly=True) as database:
    row = next(select_labelled(database))
    def rows():
        for i in range(20000):
            yield replace(row, calculation=hashlib.sha256(b"%d" % i).hexdigest())
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        write(Path(path), database, Origin(rows, {}), form)
    except RecordError as fault:
        assert "choose another place" in str(fault) and "\\n" not in str(fault), fault
        sys.exit(7)
"""


@pytest.mark.parametrize("form", ROWS)
def test_a_full_disk_is_one_line_and_leaves_nothing(record, emt_cells, tmp_path: Path, form: str) -> None:
    url = str(record.database.engine.url.render_as_string(hide_password=False))
    if record.database.dialect == "sqlite":
        url = f"sqlite:///{tmp_path / 'record.db'}"
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, url, str(tmp_path / "out" / "data"), form],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 7, done.stderr[-2000:]  # HDF5 left to itself dies of a segmentation fault at exit
    assert list((tmp_path / "out").iterdir()) == []


def test_cells_without_a_volume_and_moments_of_three_components(record, bought, tmp_path: Path) -> None:
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]])
    atoms.set_initial_magnetic_moments(np.arange(6.0).reshape(2, 3))
    origin = bought(atoms, V=np.arange(6.0))
    done = write(tmp_path / "data.db", record.database, origin, "ase")
    row = connect(done.path).get(1)
    assert (row.data["virial"] == np.arange(6.0)).all()
    assert (row.data["initial_magmoms"] == np.arange(6.0).reshape(2, 3)).all()
    assert "stress" not in row
    assert row.user == "farfield"  # not the name of whoever ran it


@pytest.mark.parametrize(
    "names",
    [{"energy": "stress"}, {"stress": "virial"}, {"forces": "positions"}, {"energy": "same", "stress": "Same"}]
    + [{"energy": n} for n in ("", "1E", "a b", "a=b", "lattice", "config_energy_weight", "farfield_fc", "Ünit")],
)
def test_names_that_readers_would_mistake_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(RecordError, match=r"choose|use letters|give each"):
        Keys(**names)


def test_nan_in_every_configuration_for_those_that_need_the_same_keys(record, emt_cells, tmp_path: Path) -> None:
    """NequIP takes what is on ASE's calculator, and the same keys in every configuration."""
    rows = list(select_labelled(record.database, campaign="first"))
    keys = Keys("energy", "forces", stress="stress", nan=True)
    done = write(tmp_path / "a.xyz", record.database, Origin(lambda: iter(rows), {}), keys=keys)
    for atoms, row in zip(read(done.path, ":"), rows, strict=True):
        found = atoms.calc.results
        assert found.keys() == {"energy", "forces", "stress"}
        for kind, name in zip("EFV", ("energy", "forces", "stress"), strict=True):
            assert np.isnan(found[name]).all() == (kind not in row.labels.kinds)
        if row.labels.forces is not None:
            assert found["forces"].tobytes() == row.labels.forces.tobytes()
    usual = write_extxyz(tmp_path / "b.xyz", record.database, campaign="first")
    assert "nan" not in usual.path.read_text(encoding="utf-8")
    assert replace(keys, nan=False).names == keys.names
