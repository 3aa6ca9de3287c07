"""Exceptions of lmp_dp: every message says what was found, what was expected and what to do."""

import os
import traceback

from lmp_dp.text import printable


class LmpDpError(Exception):
    """Base class of all errors that lmp_dp raises on purpose.

    Messages quote paths, and text from model files: what is not printable in them is escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ModelFileError(LmpDpError):
    """A model file is missing, broken, of an unknown format, or inconsistent in itself."""


class UnsupportedModelError(LmpDpError):
    """A source model is readable, but uses something that lmp_dp cannot evaluate."""


class BackendError(LmpDpError):
    """A backend was asked for by name and cannot be used here."""


class RangeError(LmpDpError):
    """A configuration lies outside of what the model was made for, and that is not allowed."""


class InputError(LmpDpError):
    """Arguments of a public call (arrays, cells, types, options) are unusable."""


class OutputError(LmpDpError):
    """A file cannot be written where it was asked for."""


def describe(error: BaseException) -> str:
    """What is said of an error: its message, with LMP_DP_TRACEBACK=1 where it comes from.

    Errors that were not raised on purpose are named, and that variable is.
    """
    if os.environ.get("LMP_DP_TRACEBACK"):
        return "".join(traceback.format_exception(error))
    if isinstance(error, LmpDpError):
        return str(error)
    hint = "LMP_DP_TRACEBACK=1 in the environment shows where"
    return printable(f"{type(error).__name__}: {error} ({hint})")
