"""What a campaign's [cluster] means in the words of SLURM, PBS, SGE and LSF: the job script of one worker."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from farfield.errors import ConfigError
from farfield.service.campaign.cluster import ClusterSection
from farfield.service.runner.lifetime import ENDS, LASTS

__all__ = ["arguments"]

DEATH_SECONDS = 120
"""How long a worker looks for its scheduler before its job ends."""

SHELLS_OF_THEIR_OWN = frozenset({"pbs", "sge"})
"""They read a script with the user's or the queue's shell, which may be csh, whatever its first line says."""


def arguments(section: ClusterSection, logs: Path) -> dict[str, Any]:
    """What `section` means to dask-jobqueue: the job script is made of this. Raises ConfigError."""
    wall = 3600 * section.wall_time
    lifetime, stagger = section.lifetime
    extra = ["--lifetime", f"{lifetime:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"]
    extra += ["--memory-limit", "0", "--no-dashboard"]  # the sandbox watches memory
    if section.resources:
        offered = " ".join(f"{name}={count:g}" for name, count in section.resources.items())
        extra += ["--resources", shlex.quote(offered)]
    threads = [f"export {v}_NUM_THREADS={section.cores}" for v in ("OMP", "OPENBLAS", "MKL")]
    ends = [f"export {ENDS}=$(($(date +%s) + {lifetime - stagger:.0f}))", f"export {LASTS}={lifetime - stagger:.0f}"]
    directives = list(section.directives)
    if section.kind in SHELLS_OF_THEIR_OWN and not _said(directives, "-S"):
        directives.append("-S /bin/bash")
    out: dict[str, Any] = {
        "queue": section.queue,
        "cores": 1,  # threads of the worker
        "processes": 1,
        "memory": f"{section.memory:.0f}MB",
        "job_name": "farfield",
        "python": shlex.quote(sys.executable),
        "interface": section.interface,
        "death_timeout": DEATH_SECONDS,
        "log_directory": str(logs),
        "shared_temp_directory": str(logs),
        "worker_extra_args": extra,
        "job_script_prologue": [*_modules(), *threads, *ends, *section.environment],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
    }
    clock = f"{int(wall // 3600):02d}:{int(wall % 3600 // 60):02d}"
    payer = "account" if section.kind in ("slurm", "pbs") else "project"
    out[payer] = section.account
    if section.kind == "slurm":
        out |= {"walltime": f"{clock}:{int(wall % 60):02d}", "job_cpu": section.cores}
        if section.gpus:
            directives.append(f"--gpus-per-node={section.gpus}")
    elif section.kind == "pbs":
        spec = f"select=1:ncpus={section.cores}:mem={section.memory:.0f}mb"
        out |= {"walltime": f"{clock}:{int(wall % 60):02d}"}
        out["resource_spec"] = spec + (f":ngpus={section.gpus}" if section.gpus else "")
    elif section.kind == "lsf":
        out |= {"walltime": clock, "ncpus": section.cores, "mem": int(1e6 * section.memory)}
        if section.gpus:
            directives.append(f'-gpu "num={section.gpus}"')
    else:
        out |= {"walltime": f"{clock}:{int(wall % 60):02d}"}
        if (section.cores > 1 and not _said(directives, "-pe")) or (section.gpus and not _said(directives, "-l")):
            raise ConfigError(
                "SGE has no common name for several cores or for GPUs; say how this site asks for them in "
                'cluster.directives, e.g. ["-pe smp 4", "-l gpu=1"]',
                key="cluster.directives",
            )
    return out | {"job_extra_directives": directives}


def _modules() -> list[str]:
    """The way to the oracle's own modules: jobs of PBS and SGE know nothing of this process's environment."""
    entries = os.environ.get("PYTHONPATH", "")
    if not entries:
        return []
    path = os.pathsep.join(os.path.abspath(entry) for entry in entries.split(os.pathsep))
    return [f"export PYTHONPATH={shlex.quote(path)}${{PYTHONPATH:+:$PYTHONPATH}}"]


def _said(directives: list[str], option: str) -> bool:
    return any(line.split()[:1] == [option] for line in directives)
