"""Damaged model files and sources: each is refused by an error of ours, or read and evaluated.

Model files (HDF5) are damaged as in tests/model/file/test_damaged_files.py, with other seeds.
Sources (.pb, .pth, .dp, .yaml) are damaged byte by byte, where a bit may as well be another number:
what can still be read must then give a result, or an error of ours. No crash, no other exception,
none that takes longer than a minute or more than 8 GB: each batch runs in a process of its own.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from lmp_dp import Potential
from lmp_dp.errors import LmpDpError
from lmp_dp.model import save
from lmp_dp.model.file.container import seal
from model.file.test_damaged_files import BYTES, CONTENT
from small_model import small_model

MODELS = Path(__file__).resolve().parents[1] / "models"
SOURCES = sorted([*MODELS.glob("*.pb"), *MODELS.glob("v3/*.*")])
BATCH = 50
LIMIT_S, LIMIT_BYTES = 60, 8 << 30
#: How it may end, as `attempt` says it.
EXPECTED = ("refused", "read, not evaluated", "evaluated", "evaluated, not finite")


def damaged(number: int, seed: int, folder: Path) -> tuple[str, Path]:
    """What is done, and the file."""
    rng = np.random.default_rng([seed, number])
    if number % 2:
        source = SOURCES[rng.integers(len(SOURCES))]
        data = bytearray(source.read_bytes())
        for _ in range(rng.choice([1, 1, 3, 20])):
            change = BYTES[rng.integers(len(BYTES))]
            if len(data) > 512:
                change(rng, data)
        path = folder / f"damaged{source.suffix}"
        path.write_bytes(data)
        return f"{source.suffix}, bytes", path
    path = folder / "damaged.h5"
    save(small_model(), path)
    if number % 4:
        content = bytearray(path.read_bytes())
        BYTES[rng.integers(len(BYTES))](rng, content)
        path.write_bytes(content)
        return ".h5, bytes", path
    with h5py.File(path, "r+") as file:
        for _ in range(rng.choice([1, 1, 2])):
            change = CONTENT[rng.integers(len(CONTENT))]
            try:
                change(rng, file)
            except (KeyError, ValueError, OSError, TypeError, MemoryError):
                continue  # a second change may not fit the first
    seal(path)
    return ".h5, content", path


def attempt(path: Path) -> str:
    """How it ends: in words of one of a few kinds."""
    try:
        potential = Potential(str(path), backend="reference", sel="ignore", table="ignore")
    except LmpDpError as error:
        return "refused" if str(error) else "refused without a word"
    n, fitting = 6, potential.model.fitting
    rng = np.random.default_rng(0)
    types = rng.integers(0, len(potential.type_map), n).astype(np.int32)
    try:
        result = potential.evaluate(
            rng.uniform(0, 4, (n, 3)),
            types,
            8 * np.eye(3),
            fparam=np.ones(fitting.n_fparam) if fitting.n_fparam else None,
            aparam=np.ones((n, fitting.n_aparam)) if fitting.n_aparam else None,
        )
    except LmpDpError as error:
        return "read, not evaluated" if str(error) else "not evaluated without a word"
    return "evaluated" if np.isfinite(result.energy) else "evaluated, not finite"


def batch(first: int, last: int, seed: int, out: io.TextIOBase) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(
        dir=os.environ["TMPDIR"]
    )  # for converted models
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for number in range(first, last):
            kind, path = damaged(number, seed, Path(folder))
            out.write(f"{number}\t{kind}\t")
            out.flush()
            signal.alarm(LIMIT_S)
            try:
                found = attempt(path)
            except Exception as error:
                found = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            out.write(f"{found}\n")
    signal.alarm(0)


def run(count: int, seed: int) -> int:
    outcomes: dict[str, Counter[str]] = {}
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        first, report = 0, Path(folder, "report")
        while first < count:
            last = min(first + BATCH, count)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    with open(report, "w") as out:
                        batch(first, last, seed, out)
                    status = 0
                except Exception:
                    traceback.print_exc()
                os._exit(status)  # without what the parent cleans up
            status = os.waitpid(pid, 0)[1]
            if status == 1 << 8:  # this trial's own fault
                return 1
            lines = report.read_text().split("\n")
            for line in filter(None, lines):
                number, kind, found = line.split("\t")
                first = int(number) + 1
                if status and line == lines[-1]:
                    found = f"process ended with status {status}"
                outcomes.setdefault(kind, Counter())[found] += 1
                if found not in EXPECTED:
                    faults.append(f"{number} ({kind}): {found}")
            first = max(first, last) if not status else first
            print(f"\r{first}", end="", file=sys.stderr, flush=True)
    for kind, counter in sorted(outcomes.items()):
        print(f"{kind}: " + ", ".join(f"{n} {found}" for found, n in counter.most_common()))
    print(*faults[:20], sep="\n")
    print(f"{len(faults)} faults")
    return int(bool(faults))
