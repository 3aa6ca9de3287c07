"""What the checks of ``lmp-dp doctor`` find, and the processes that they try things in.

Standard library only, since doctor runs where the imports of the other tools fail.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmp_dp import child

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "PROBLEM"
#: How long a process may take, unless it says otherwise.
SECONDS = 120.0


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    topic : str
    verdict : {"ok", "note", "warning", "PROBLEM"}
        A note is about something optional, a warning about wrong or slow runs in some situation; a
        problem keeps pair style dp from running.
    text : str
        What was found.
    remedy : str
        What to do about it; empty if nothing.
    """

    topic: str
    verdict: str
    text: str
    remedy: str = ""


def python(
    code: str, *arguments: str, seconds: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """A Python of its own that runs `code` with `sys.argv[1:]`, for at most so many `seconds`."""
    return finished(child.command(code, *arguments), seconds)


def finished(
    command: Sequence[str], seconds: float = SECONDS, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that has ended, with what it said; one that takes too long is ended."""
    return subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def last(done: subprocess.CompletedProcess[str]) -> str:
    """The last that a command said."""
    said = (done.stdout + done.stderr).strip()
    return said.rpartition("\n")[2] or f"status {done.returncode}"
