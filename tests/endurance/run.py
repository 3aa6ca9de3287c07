"""Long trials that the tests of every change have no time for; by hand, before a release.

    python tests/endurance/run.py dynamics     # 20,000 steps of water, memory watched
    python tests/endurance/run.py models       # 5,000 frames of random models, against DeePMD-kit
    python tests/endurance/run.py invariances  # 2,000 random models and frames
    python tests/endurance/run.py files        # 2,000 damaged model files
    python tests/endurance/run.py models --count 100 --seed 7     # fewer, or others

Each prints its figures, and ends with 1 where one is beyond what its module derives. `models` needs
deepmd-kit with TensorFlow and PyTorch, the others what the tests need.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "models"), str(TESTS / "engine"), str(TESTS.parent)]


def main() -> int:
    trials = {
        "dynamics": ("dynamics", 20_000),
        "models": ("random_models", 5_000),
        "invariances": ("invariances", 2_000),
        "files": ("damaged_files", 2_000),
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("trial", choices=trials)
    parser.add_argument("--count", type=int, help="of steps, frames, cases or files")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    module, count = trials[options.trial]
    return importlib.import_module(module).run(options.count or count, options.seed)


if __name__ == "__main__":
    sys.exit(main())
