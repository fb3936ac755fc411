"""What a batch system is asked for, in its own words. SLURM itself is in test_slurm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dask_jobqueue
import pytest
from ase.build import bulk

from farfield.errors import ConfigError
from farfield.service.campaign.cluster import ClusterSection
from farfield.service.campaign.config import CampaignConfig
from farfield.service.runner import lifetime
from farfield.service.runner.batch import _last_line, batch
from farfield.service.runner.clusters import connect
from farfield.service.runner.jobscript import arguments
from farfield.service.runner.lifetime import ENDS, LASTS, Lifetime
from farfield.service.runner.orders import order_for


def script(folder: Path, **keys: object) -> list[str]:
    """The lines of the job script that `keys` lead to."""
    section = ClusterSection.model_validate({"queue": "batch", "account": "p1", "memory": 9000, **keys})
    given = arguments(section, folder)
    for name in ("scheduler_options", "shared_temp_directory"):
        given.pop(name)
    cls = getattr(dask_jobqueue, f"{section.kind.upper()}Cluster")
    return cls.job_cls("tls://10.0.0.1:4711", name="w-0", **given).job_script().splitlines()


EXPECTED = {
    "slurm": ["#SBATCH -p batch", "#SBATCH -A p1", "#SBATCH --cpus-per-task=8", "#SBATCH -t 12:30:00",
              "#SBATCH --gpus-per-node=2", "#SBATCH --mem=9G"],
    "pbs": ["#PBS -q batch", "#PBS -A p1", "#PBS -l select=1:ncpus=8:mem=9000mb:ngpus=2", "#PBS -l walltime=12:30:00",
            "#PBS -S /bin/bash"],
    "sge": ["#$ -q batch", "#$ -P p1", "#$ -l h_rt=12:30:00", "#$ -pe smp 8", "#$ -l gpu=2",
            "#$ -S /bin/bash"],
    "lsf": ["#BSUB -q batch", '#BSUB -P "p1"', "#BSUB -n 8", '#BSUB -R "span[hosts=1]"', "#BSUB -W 12:30",
            '#BSUB -gpu "num=2"'],
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_job_is_one_worker_with_the_cores_of_one_call(kind: str, tmp_path: Path) -> None:
    lines = script(
        tmp_path,
        kind=kind,
        cores=8,
        gpus=2,
        wall_time=12.5,
        environment=["module load qe"],
        directives=["-pe smp 8", "-l gpu=2"] if kind == "sge" else [],
    )
    for line in EXPECTED[kind]:
        assert line in [x.replace("8584M", "9G") for x in lines], (line, lines)
    worker = lines[-1]
    assert "--nthreads 1 " in worker
    assert "--resources 'cores=8 gpus=2'" in worker
    assert lines.index("module load qe") < len(lines) - 1
    assert "export OMP_NUM_THREADS=8" in lines
    words = worker.split()
    lifetime, stagger = (float(words[words.index(f"--{w}") + 1].rstrip("s")) for w in ("lifetime", "lifetime-stagger"))
    assert 0.9 * 12.5 * 3600 < lifetime - stagger < lifetime + stagger < 12.5 * 3600
    assert any(line.startswith(f"export {ENDS}=") for line in lines)
    assert f"export {LASTS}={lifetime - stagger:.0f}" in lines


def test_a_job_finds_the_modules_that_the_controller_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the batch system starts it with an environment of its own, in another folder."""
    (tmp_path / "our own").mkdir()
    (tmp_path / "our own" / "ours.py").write_text("print('found')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "our own")
    lines = [line for line in script(tmp_path, kind="sge")[:-1] if not line.startswith("#")]
    command = "\n".join([*lines, f"cd /; {sys.executable} -c 'import ours'"])
    said = subprocess.run(["bash", "-c", command], env={"PATH": os.defpath}, capture_output=True, text=True, check=True)
    assert said.stdout == "found\n"
    monkeypatch.delenv("PYTHONPATH")
    assert not any("PYTHONPATH" in line for line in script(tmp_path, kind="sge"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("stderr:\nUnable to run job: unknown queue.\nExiting.\n", "Unable to run job: unknown queue."),  # SGE
        ("stderr:\nsbatch: error: invalid partition\n", "sbatch: error: invalid partition"),
        ("", "RuntimeError"),
    ],
)
def test_of_what_a_batch_system_says_the_reason_is_told(said: str, told: str) -> None:
    assert _last_line(RuntimeError(said)) == told


def test_sge_is_told_how_a_site_asks_for_cores(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.directives"):
        script(tmp_path, kind="sge", cores=4)
    assert not any("/bin/bash" in line for line in script(tmp_path, kind="sge", directives=["-S /opt/bash"]))


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = ClusterSection(kind="slurm")
    with pytest.raises(ConfigError, match="PostgreSQL"), connect(section, one_host=True):
        pass
    with pytest.raises(ConfigError, match=r"job of cluster\.wall_time 1 h holds no call of oracle\.wall_time 3600"):
        CampaignConfig.from_mapping({"cluster": {"kind": "slurm", "wall_time": 1}})
    # one that was stored before this was checked can be compared with, and so be mended
    CampaignConfig.from_mapping({"cluster": {"kind": "slurm", "wall_time": 1}}, checked=True)
    with pytest.raises(ConfigError, match=r"cluster\.memory 4000 MB"):
        CampaignConfig.from_mapping({"cluster": {"kind": "slurm", "memory": 4000}})
    for wrong in ({"environment": ["a\nb"]}, {"queue": "a b"}, {"minimum": 5, "workers": 2}, {"tls_ca": "ca.pem"}):
        with pytest.raises(ConfigError):
            CampaignConfig.from_mapping({"cluster": wrong})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="this host has no sbatch"), batch(section, tmp_path):
        pass


def test_a_worker_leaves_when_another_call_like_its_longest_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDS, raising=False)
    endless = Lifetime()
    endless.called(1e9)
    assert not endless.leaving
    monkeypatch.setenv(ENDS, "0")
    late = Lifetime()
    assert not late.leaving  # it takes the first call, as long as its job lives
    late.called(0.0)
    assert late.leaving


def test_a_worker_takes_no_call_that_is_known_not_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is young: then no other has more time to offer."""
    monkeypatch.delenv(ENDS, raising=False)
    assert Lifetime().holds(1e9)
    now = time.time()
    monkeypatch.setenv(ENDS, f"{now + 1000}")
    worker = Lifetime()
    assert worker.holds(5000)
    clock = time.monotonic()
    monkeypatch.setattr(lifetime.time, "monotonic", lambda: clock + 600)
    assert worker.holds(0)
    assert worker.holds(300)
    assert not worker.holds(390)
    assert worker.leaving
    assert not worker.holds(0)  # what waits behind goes elsewhere
    monkeypatch.setenv(ENDS, f"{time.time() + 1000}")
    monkeypatch.setenv(LASTS, "10000")
    assert not Lifetime().holds(5000)  # a worker started anew late in its job


def test_a_call_that_is_tried_again_gets_no_more_than_its_job_has() -> None:
    atoms, failures = bulk("Cu"), {"timed out": 1, "out of memory": 1}
    given = {"oracle": {"wall_time": 3000, "memory": 4000}}
    there = CampaignConfig.from_mapping({**given, "cluster": {"kind": "slurm", "wall_time": 1.2, "memory": 5000}})
    here = CampaignConfig.from_mapping(given)
    wide, bound = (order_for(c, "", 1, "", atoms, ("E",), failures) for c in (here, there))
    assert (wide.wall_time, wide.memory) == (6000, 8000)
    assert 3000 < bound.wall_time < 1.2 * 3600
    assert 4000 < bound.memory < 5000
