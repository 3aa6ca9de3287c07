"""Command-line options that tools share: numbers within bounds, refused with a sentence."""

from __future__ import annotations

import argparse
import math

LARGEST = 2**31  # LAMMPS counts in 32 bits


def count(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    return _whole(text, 1)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no finite number above 0")
    return number


def not_negative_number(text: str) -> float:
    """A finite number, 0 or more."""
    number = _number(text)
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no finite number of at least 0")
    return number


def add_system(parser: argparse.ArgumentParser) -> None:
    """The options that say what is simulated."""
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="LAMMPS data file (units metal, periodic)"
    )
    parser.add_argument(
        "--elements", nargs="+", default=[], metavar="NAME",
        help="element of each LAMMPS type, as after pair_coeff * * (default: the model's order)",
    )  # fmt: skip


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None
    if not least <= number < LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is not from {least} to {LARGEST - 1}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
