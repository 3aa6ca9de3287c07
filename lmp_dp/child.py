"""Child Pythons that use what the parent uses, whatever lies in the working directory.

`python -c` and `python -m` look for modules in the working directory first: in the root of a clone
they would find its source tree, which has no compiled plugin, and elsewhere any file `lmp_dp.py` or
`numpy.py`. (`-P` would prevent it from Python 3.11 on; `-I` also hides PYTHONPATH and the user's
own packages.) Standard library only, since `lmp-dp doctor` runs where other imports fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

# `sys` is built in, so the first line imports no file. The rest makes the parent's package the
# child's, also where the parent found it in a place that the child does not search.
_PREPARE = """\
import sys
sys.path[:1] = [folder for folder in sys.path[:1] if folder]
import importlib.util
_spec = importlib.util.spec_from_file_location("lmp_dp", sys.argv.pop(1))
sys.modules["lmp_dp"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["lmp_dp"])
"""


def command(code: str, *arguments: str) -> list[str]:
    """Command line of a Python with this environment and this very package.

    Parameters
    ----------
    code : str
        What it runs; `sys` is imported already.
    arguments : str
        Its `sys.argv[1:]`.
    """
    package = str(Path(__file__).resolve().with_name("__init__.py"))
    return [sys.executable, "-c", f"{_PREPARE}{code}", package, *arguments]
