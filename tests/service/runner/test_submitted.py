"""What a controller that was killed has left, and nobody else's jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from farfield.service.runner.host import this_host
from farfield.service.runner.submitted import Submitted, left_behind

NOTES = """
import sys
from pathlib import Path
from farfield.service.runner.submitted import Submitted
note = Submitted(Path(sys.argv[1]), "slurm", [".dask-key"])
note.note(["12", "7"])
print("noted", flush=True)
sys.stdin.read()
"""


def test_only_jobs_of_a_controller_that_is_gone_are_left_behind(tmp_path: Path) -> None:
    """`farfield verify` has jobs of its own beside those of a run, in the same folder."""
    mine = Submitted(tmp_path, "slurm")
    mine.note(["3"])
    process = subprocess.Popen(
        [sys.executable, "-c", NOTES, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "noted\n"
        assert list(left_behind(tmp_path)) == []
    finally:
        process.kill()
        process.communicate()
    ((path, left),) = left_behind(tmp_path)
    assert (left.jobs, left.keys, left.pid) == (("12", "7"), (".dask-key",), process.pid)
    path.unlink()
    mine.close()
    assert not list(tmp_path.iterdir())


def test_another_host_says_nothing_and_an_earlier_boot_everything(tmp_path: Path) -> None:
    Submitted(tmp_path, "slurm").note(["3"])
    (path,) = tmp_path.iterdir()
    data = json.loads(path.read_text(encoding="utf-8"))
    host, life = this_host()
    assert (data["host"], data["life"], data["pid"]) == (host, life, os.getpid())
    for change, count in (
        ({"host": "elsewhere", "pid": 1}, 0),
        ({"life": "an-earlier-boot/pid:[1]"}, 1),
        ({"life": f"{life.partition('/')[0]}/another", "pid": 1}, 0),
    ):
        path.write_text(json.dumps(data | change), encoding="utf-8")
        assert len(list(left_behind(tmp_path))) == count, change
