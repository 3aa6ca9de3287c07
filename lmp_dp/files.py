"""Writing files: whole or not at all, and never over what is read or is no plain file."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lmp_dp.errors import OutputError

StrPath = str | os.PathLike[str]
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def check_destinations(paths: Iterable[StrPath | None], sources: Iterable[StrPath] = ()) -> None:
    """Refuse files that could not be written after the work is done, or should not be.

    Parameters
    ----------
    paths : iterable of path or None
        To be written; None is passed over.
    sources : iterable of path
        Files that are read, which must not be among them, by whatever name or link.

    Raises
    ------
    OutputError
        With the reason. Nothing was changed.
    """
    named: dict[Path, StrPath] = {}
    for path in paths:
        if path is None:
            continue
        target, _ = _target(path)
        for source in sources:
            with suppress(OSError, ValueError):  # no such source, or no such target yet
                if os.path.samefile(target, source):
                    raise OutputError(f"cannot write {path}: it is the file that is read, {source}")
        if target in named:
            raise OutputError(f"cannot write {path}: {named[target]} is the same file")
        named[target] = path
        try:
            # as it will be needed: permissions alone do not tell (read-only media, quotas)
            if target.exists():
                os.close(os.open(target, os.O_WRONLY | os.O_CLOEXEC))
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        except OSError as error:
            raise _refusal(path, target, str(error.strerror)) from error


def write(path: StrPath, content: bytes | memoryview) -> None:
    """Put `content` in the place of the file, which is as before if that fails or is interrupted.

    A symbolic link stays, and what it points to is written. Permissions of a file that exists are
    kept.

    Raises
    ------
    OutputError
        The file cannot be written, or is no plain file.
    """
    target, mode = _target(path)
    temporary = target.with_name(f"{target.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # some file systems only find out here that they are full
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except OSError as error:
        raise _refusal(path, target, str(error.strerror)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _target(path: StrPath) -> tuple[Path, int | None]:
    """The file behind `path`, links followed, and its permissions if it exists."""
    target = Path(path)
    try:
        target = Path(os.path.realpath(path))
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if not target.parent.is_dir():
            raise _refusal(path, target, "there is no such folder") from None
        return target, None
    except (OSError, ValueError) as error:
        raise _refusal(path, target, getattr(error, "strerror", None) or str(error)) from error
    for is_kind, kind in _KINDS:
        if is_kind(found.st_mode):
            raise _refusal(path, target, f"it is {kind}, expected a file or none")
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                raise _refusal(path, target, "the output of this command goes there")
    return target, stat.S_IMODE(found.st_mode) & 0o777


def _refusal(path: StrPath, target: Path, reason: str) -> OutputError:
    link = f" (a link to {target})" if os.path.islink(path) else ""
    return OutputError(f"cannot write {os.fspath(path)}{link}: {reason}")
