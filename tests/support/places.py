"""A small disk, a host of another name, and a network of one's own that can be cut: all need root and the right to."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from required import absent

DISK_BYTES = 160 * 1024 * 1024


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs in `folder`."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if (why := _refused(mount)) is not None:
        absent("tmpfs", f"cannot mount a tmpfs ({why})")
    try:
        if (size := shutil.disk_usage(disk).total) != DISK_BYTES:
            absent("tmpfs", f"a tmpfs of {DISK_BYTES} bytes has {size} here")
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """A file `junk` that takes what is left of a small disk, to the last block."""
    with (disk / "junk").open("wb", buffering=0) as junk:
        for size in (1 << 16, 1):
            try:
                for _ in range(DISK_BYTES // size + 2):  # the last one that finds room may write less
                    junk.write(bytes(size))
            except OSError as fault:
                if fault.errno != errno.ENOSPC:
                    raise
            else:
                raise AssertionError(f"{disk} never fills")


def another_host(name: str) -> list[str]:
    """What stands before a command that is to run on a host called `name`, as far as the command can tell."""
    if (why := _refused(["unshare", "--uts", "hostname", name])) is not None:
        absent("uts", f"cannot take another host name ({why})")
    return ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$0" "$@"']


def another_container() -> list[str]:
    """What stands before a command that is to run with process ids of its own."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if (why := _refused([*command, "true"])) is not None:
        absent("pidns", f"cannot make a pid namespace ({why})")
    return command


@contextmanager
def namespace() -> Iterator[tuple[list[str], str, Callable[[bool], None]]]:
    """What stands before a command that runs in a network namespace of its own; our address as seen from there; and
    what cuts the way between the two, or mends it."""
    if shutil.which("ip") is None:
        absent("netns", "no ip (Debian: iproute2)")
    number = os.getpid() % 250
    name, ours, theirs = f"farfield{number}", f"ffa{number}", f"ffb{number}"
    here, there = f"10.213.{number}.1", f"10.213.{number}.2"
    if (why := _refused(["ip", "netns", "add", name])) is not None:
        absent("netns", f"cannot make a network namespace ({why})")
    inside = ["ip", "netns", "exec", name]

    def run(*command: str) -> None:
        subprocess.run(command, check=True)

    try:
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
        run("ip", "link", "set", theirs, "netns", name)
        run("ip", "address", "add", f"{here}/30", "dev", ours)
        run("ip", "link", "set", ours, "up")
        run(*inside, "ip", "address", "add", f"{there}/30", "dev", theirs)
        run(*inside, "ip", "link", "set", theirs, "up")
        run(*inside, "ip", "link", "set", "lo", "up")

        def cut(off: bool) -> None:
            run("ip", "link", "set", ours, "down" if off else "up")

        yield inside, here, cut
    finally:
        subprocess.run(["ip", "link", "del", ours], check=False, stderr=subprocess.DEVNULL)
        run("ip", "netns", "del", name)


def _refused(command: list[str]) -> str | None:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if said.returncode == 0 else " ".join(said.stderr.split())[:200]
