"""``lmp-dp export``: a model file as DeePMD-kit's own, format ``.dp`` of version 3."""

from __future__ import annotations

import argparse
import os

import lmp_dp
from lmp_dp import files
from lmp_dp.errors import InputError
from lmp_dp.model import load
from lmp_dp.model.exports import dp
from lmp_dp.text import printable


def export(source: str | os.PathLike[str], destination: str | os.PathLike[str]) -> None:
    """Write a model file (``.h5``) as a DP model (``.dp``), which DeePMD-kit evaluates the same.

    Where `sel` is too small the families choose neighbours differently: nothing else differs.

    Raises
    ------
    UnsupportedModelError
        The DP format cannot express the model; nothing is written.
    ModelFileError
        The source is missing or broken.
    InputError
        The destination is not called .dp.
    OutputError
        The destination cannot be written, is the source, or is no plain file.
    """
    if not str(os.fspath(destination)).endswith(".dp"):
        raise InputError(
            f"cannot export to {os.fspath(destination)}: DeePMD-kit knows the format by its "
            "suffix; name a file that ends with .dp ('dp convert-backend' makes others of it)"
        )
    files.check_destinations([destination], [source])
    model = load(source)
    files.write(destination, dp.image(model, f"lmp_dp {lmp_dp.__version__}"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lmp-dp export``."""
    parser.add_argument("model", help="model file (.h5), not compressed")
    parser.add_argument("destination", help="DP model to write (.dp)")


def main(args: argparse.Namespace) -> int:
    """Run ``lmp-dp export``."""
    export(args.model, args.destination)
    print(printable(f"{args.destination}: written; 'dp convert-backend' makes a .pth of it"))
    return 0
