"""Running `lmp-dp doctor` in a real process, and reading what it found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
OURS = ("OMP_NUM_THREADS", "OMP_PROC_BIND", "OPENBLAS_CORETYPE", "LAMMPS_PLUGIN_PATH", "PYTHONPATH")


def examine(path: str = "", **environment: str) -> tuple[int, list[tuple[str, str, str]], str]:
    """Exit code, (verdict, topic, text with remedy) of each finding, and all that was printed."""
    plain = {name: value for name, value in os.environ.items() if name not in OURS}
    plain["PATH"] = f"{path}:{BIN}:{plain['PATH']}"
    done = subprocess.run(
        [str(BIN / "lmp-dp"), "doctor"],
        capture_output=True,
        text=True,
        env={**plain, **environment},
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    findings: list[tuple[str, str, str]] = []
    for line in done.stdout.splitlines()[:-1]:
        if line.startswith(" "):
            verdict, topic, text = findings.pop()
            findings.append((verdict, topic, f"{text} {line.strip()}"))
        else:
            findings.append((line[:8].strip(), line[9:20].strip(), line[21:]))
    return done.returncode, findings, done.stdout


def of(findings: list[tuple[str, str, str]], topic: str, verdict: str) -> str:
    """The texts of the findings of a topic with that verdict; fails if there is none."""
    texts = [found[2] for found in findings if found[:2] == (verdict, topic)]
    assert texts, findings
    return "\n".join(texts)


def shadow(folder: Path, **modules: str) -> Path:
    """A folder for PYTHONPATH whose modules come before the installed ones."""
    for name, code in modules.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(code)
    return folder
