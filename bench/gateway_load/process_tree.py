"""CPU time and memory of a process with all its children, from /proc.

CPU time is what makes figures of a busy machine comparable: it counts only what the processes themselves took.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, []))
    return found


def cpu_s(pid: int) -> float:
    """Seconds of CPU, in user and kernel, that the tree has taken; of children that ended too, once waited for."""
    ticks = sum(sum(map(int, fields[11:15])) for each in tree(pid) if (fields := _stat(each)))
    return ticks / TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Resident memory of the tree; pages that its processes share count once for each."""
    return sum(int(fields[21]) * PAGE_BYTES for each in tree(pid) if (fields := _stat(each)))


def busy_s() -> float:
    """Seconds of CPU that the whole machine has spent on anything, over all cores."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def find(word: str) -> int:
    """The first process below this one that has a word like this in its command line.

    Raises:
        LookupError: none has.
    """
    for each in tree(os.getpid()):
        with contextlib.suppress(OSError):
            if word in Path(f"/proc/{each}/cmdline").read_text():
                return each
    raise LookupError(f"no process runs {word}")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on, so that the parent is field 1; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
