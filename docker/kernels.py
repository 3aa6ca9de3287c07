"""Compile kernels for the levels of CPUs, for an image: python docker/kernels.py FOLDER

Runs the examples of ../lammps_inputs for the lowest level, which the CPU at hand must have. numba's
cache then knows which kernels are called with which types, and these are compiled for the other
levels, without being run.
"""

import importlib
import os
import pickle
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = {"in.water_nvt": "water.h5", "in.copper_nve": "cu.h5"}
OPTIONS = [
    f"compress {compress} precision {precision}"
    for precision in ("float64", "float32")
    for compress in ("no", "yes")
]
INPUTS = Path(__file__).resolve().parent.parent / "lammps_inputs"


def main(folder: Path) -> None:
    from lmp_dp.engine.cpu.precompiled import LEVELS, written

    *others, lowest = LEVELS
    environments = {
        level: {
            **os.environ,
            "NUMBA_CPU_NAME": level,
            "NUMBA_CPU_FEATURES": written(level),
            "NUMBA_CACHE_DIR": str(folder / level),
        }
        for level in LEVELS
    }
    with tempfile.TemporaryDirectory() as scratch:
        for example, model in EXAMPLES.items():
            for options in OPTIONS:
                script, changed = re.subn(
                    rf"(pair_style +dp) models/{re.escape(model)}",
                    rf"\1 {INPUTS / 'models' / model} {options}",
                    (INPUTS / example).read_text().replace("water192", str(INPUTS / "water192")),
                )
                if changed != 1:
                    sys.exit(f"kernels.py: expected 'pair_style dp models/{model}' in {example}")
                path = Path(scratch, example)
                path.write_text(script)
                command = ["lmp-dp", "run", "-in", str(path), "-log", "none", "-screen", "none"]
                subprocess.run(
                    [*command, "-var", "steps", "20"], check=True, env=environments[lowest]
                )
    shutil.rmtree(folder / lowest / "lmp_dp-models")  # those that were tabulated
    this = [sys.executable, __file__]
    types = subprocess.run(
        [*this, "--types"], check=True, env=environments[lowest], stdout=subprocess.PIPE
    ).stdout
    for level in others:
        subprocess.run([*this, "--compile"], check=True, env=environments[level], input=types)
    for level in LEVELS:
        found = [path for path in (folder / level).rglob("*.nb?")]
        size = sum(path.stat().st_size for path in found)
        print(f"{level}: {sum(p.suffix == '.nbc' for p in found)} kernels, {size / 1e6:.1f} MB")


def kernels() -> dict:
    """All functions that numba compiles, by module and name."""
    import lmp_dp.engine.cpu.kernels as package

    found = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if hasattr(value, "py_func") and value.__module__ == info.name:
                found[info.name, name] = value
    return found


def write_types() -> None:
    """The types that kernels were called with, as numba's cache knows them, to stdout."""
    called = {
        name: [key[0] for key in kernel._cache._cache_file._load_index()]
        for name, kernel in kernels().items()
    }
    sys.stdout.buffer.write(pickle.dumps(called))


def compile_for_types() -> None:
    """The counterpart of `write_types`, for another CPU."""
    there = kernels()
    for name, types in pickle.loads(sys.stdin.buffer.read()).items():
        for signature in types:
            there[name].compile(signature)


if __name__ == "__main__":
    if sys.argv[1:] == ["--types"]:
        write_types()
    elif sys.argv[1:] == ["--compile"]:
        compile_for_types()
    elif len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        main(Path(sys.argv[1]))
    else:
        sys.exit(__doc__)
