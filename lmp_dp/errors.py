"""Exceptions of lmp_dp: every message says what was found, what was expected and what to do."""


class LmpDpError(Exception):
    """Base class of all errors that lmp_dp raises on purpose."""


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
