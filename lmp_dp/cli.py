"""The ``lmp-dp`` command: argument parsing only; each subcommand lives where its work is done."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import lmp_dp
from lmp_dp.errors import describe
from lmp_dp.text import printable, write_anything


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command.

    Returns
    -------
    int
        Exit code: that of the command; 2 for wrong use, unusable input and output that cannot be
        written; 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        write_anything(stream)
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where something can be said about what goes wrong
    except KeyboardInterrupt:
        return _failed(arguments, "interrupted", 130)
    except Exception as error:
        return _failed(arguments, f"error: {_reason(error)}", 2)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["run"]:  # every option after it belongs to LAMMPS
        from lmp_dp.lammps import launcher

        return launcher.main(arguments[1:])
    # These work where the imports of the other tools fail.
    if arguments[:1] == ["help"]:
        from lmp_dp.tools import help as help_tool

        return help_tool.main(arguments[1:])
    if arguments[:1] in (["doctor"], ["plugin"]):
        from lmp_dp.tools import doctor, plugin

        tool: Any = {"doctor": doctor, "plugin": plugin}[arguments[0]]
        about = tool.__doc__.partition(": ")[2].partition("\n")[0]
        parser = _Parser(prog=f"lmp-dp {arguments[0]}", description=about[:1].upper() + about[1:])
        tool.add_arguments(parser)
        return int(tool.main(parser.parse_args(arguments[1:])))
    args = _parser().parse_args(arguments)
    return int(args.function(args))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and not os.environ.get("LMP_DP_TRACEBACK"):
        if error.filename is not None:  # a path that cannot be one
            return printable(f"{error.strerror}: {error.filename}")
        if error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"the output cannot be written: {error.strerror}"
    return describe(error)


def _failed(arguments: list[str], text: str, code: int) -> int:
    """Say how the command ended; `code`."""
    with suppress(OSError):
        print(f"lmp-dp {printable(arguments[0])}: {text}", file=sys.stderr, flush=True)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # Python would try again at the end, and fail with a text of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is not None:  # argparse's own passes over what goes wrong here
            file.write(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lmp-dp", description="Deep Potential models in LAMMPS, with an engine in Python."
    )
    parser.add_argument("--version", action="version", version=f"lmp-dp {lmp_dp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="frozen DeePMD-kit model -> model file")
    info = commands.add_parser("info", help="what a model file holds; --verify proves it")
    compress = commands.add_parser(
        "compress", help="tabulate the embedding nets: several times faster"
    )
    export = commands.add_parser("export", help="model file -> DeePMD-kit's own format (.dp)")
    check = commands.add_parser("check", help="parity of pair dp with pair deepmd")
    bench = commands.add_parser("bench", help="speed of pair dp, and beside it of pair deepmd")
    from lmp_dp.tools import bench as bench_tool
    from lmp_dp.tools import check as check_tool
    from lmp_dp.tools import compress as compress_tool
    from lmp_dp.tools import convert as convert_tool
    from lmp_dp.tools import export as export_tool
    from lmp_dp.tools import info as info_tool

    for command, tool in (
        (convert, convert_tool),
        (info, info_tool),
        (compress, compress_tool),
        (export, export_tool),
        (check, check_tool),
        (bench, bench_tool),
    ):
        tool.add_arguments(command)
        command.set_defaults(function=tool.main)

    commands.add_parser("help", help="the documentation, page by page")
    commands.add_parser("doctor", help="is everything there, and will it be fast?")
    commands.add_parser("plugin", help="compile the plugin for any LAMMPS: build; path")
    commands.add_parser(
        "run", help="run LAMMPS with pair style dp; takes every option of lmp", add_help=False
    )
    return parser
