"""The ``lmp-dp`` command: argument parsing only; each subcommand lives where its work is done."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import lmp_dp
from lmp_dp.errors import LmpDpError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns the exit code (2: wrong use or unusable input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:  # every option after it belongs to LAMMPS
        from lmp_dp.lammps import launcher

        return launcher.main(arguments[1:])
    if arguments == ["doctor"]:  # works where the imports of the other tools fail
        from lmp_dp.tools import doctor

        return doctor.main()
    args = _parser().parse_args(arguments)
    try:
        return int(args.function(args))
    except LmpDpError as error:
        print(f"lmp-dp {args.command}: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lmp-dp", description="Deep Potential models in LAMMPS, with an engine in Python."
    )
    parser.add_argument("--version", action="version", version=f"lmp-dp {lmp_dp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="frozen DeePMD-kit model (.pb) -> model file")
    info = commands.add_parser("info", help="what a model file holds; --verify proves it")
    compress = commands.add_parser(
        "compress", help="tabulate the embedding nets: several times faster"
    )
    check = commands.add_parser("check", help="parity of pair dp with pair deepmd")
    bench = commands.add_parser("bench", help="speed of pair dp, and beside it of pair deepmd")
    from lmp_dp.tools import bench as bench_tool
    from lmp_dp.tools import check as check_tool
    from lmp_dp.tools import compress as compress_tool
    from lmp_dp.tools import convert as convert_tool
    from lmp_dp.tools import info as info_tool

    for command, tool in (
        (convert, convert_tool),
        (info, info_tool),
        (compress, compress_tool),
        (check, check_tool),
        (bench, bench_tool),
    ):
        tool.add_arguments(command)
        command.set_defaults(function=tool.main)

    commands.add_parser("doctor", help="is everything there, and will it be fast?")
    commands.add_parser(
        "run", help="run LAMMPS with pair style dp; takes every option of lmp", add_help=False
    )
    return parser
