"""Reading HDF5 that nobody vouches for: every access says what it expects, and where it failed.

HDF5 can name other files in a file: by external and soft links, by virtual datasets and by raw
data that is stored elsewhere; and it runs plug-ins for filters. Here only members by a hard link
are opened, and only plain numbers and strings are read that lie in the file itself, unfiltered.
All of what is read together is no larger than the file.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from lmp_dp.errors import ModelFileError

_LINKS = {h5py.h5l.TYPE_SOFT: "soft link", h5py.h5l.TYPE_EXTERNAL: "link to another file"}
#: Classes of numbers, bools (which are enumerations) and strings.
_PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING)
_MAX_TEXTS = 10_000


class Reader:
    """One group of a file.

    Parameters
    ----------
    group : h5py.Group
    place : str
        Path of the group, for messages.
    left : list of int, optional
        Bytes that may still be read, shared by all groups of a file.
    """

    def __init__(self, group: h5py.Group, place: str = "", left: list[int] | None = None) -> None:
        self._group = group
        self.place = place
        self._left = [group.file.id.get_filesize()] if left is None else left

    # ------------------------------------------------------------------- groups
    def __len__(self) -> int:
        """Number of members."""
        return len(self._group)

    def has(self, name: str) -> bool:
        """Whether there is a link of this name, of whatever kind."""
        return bool(self._group.id.links.exists(name.encode()))

    def sub(self, name: str) -> Reader:
        """A group in this one."""
        item = self._member(name, h5py.h5o.TYPE_GROUP, "group")
        return Reader(item, f"{self.place}/{name}", self._left)

    def _member(self, name: str, kind: int, called: str) -> Any:
        place, key = f"{self.place}/{name}", name.encode()
        if not self.has(name):
            raise ModelFileError(f"{called} {place} is missing")
        link = self._group.id.links.get_info(key).type
        if link != h5py.h5l.TYPE_HARD:
            raise ModelFileError(
                f"{called} {place} is a {_LINKS.get(link, 'link of an unknown kind')}; only what "
                "lies in the file itself is read"
            )
        if h5py.h5o.get_info(self._group.id, key).type != kind:
            raise ModelFileError(f"{place} is not a {called}")
        return self._group[name]

    # ------------------------------------------------------------------- attributes
    def has_attribute(self, name: str) -> bool:
        """Whether the group has an attribute of this name."""
        return name in self._group.attrs

    def _attribute(self, name: str) -> Any:
        place = f"{self.place}/@{name}"
        if not self.has_attribute(name):
            raise ModelFileError(f"attribute {place} is missing")
        attribute = self._group.attrs.get_id(name)
        scalar = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
        if not scalar or attribute.get_type().get_class() not in _PLAIN:
            raise ModelFileError(f"attribute {place} is not a plain number or string")
        return self._group.attrs[name]

    def _unusable(self, name: str, value: Any, expected: str) -> ModelFileError:
        shown = repr(value)
        shown = shown if len(shown) < 80 else f"{shown[:80]}..."
        return ModelFileError(
            f"attribute {self.place}/@{name} has the unusable value {shown}, expected {expected}"
        )

    def string(self, name: str) -> str:
        """A string attribute."""
        value = self._attribute(name)
        if not isinstance(value, str):
            raise self._unusable(name, value, "a string")
        return value

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self._attribute(name)
        if not isinstance(value, (np.floating, np.integer)):
            raise self._unusable(name, value, "a number")
        return float(value)

    def integer(self, name: str) -> int:
        """An attribute that is an integer."""
        value = self._attribute(name)
        if not isinstance(value, np.integer):
            raise self._unusable(name, value, "an integer")
        return int(value)

    def flag(self, name: str) -> bool:
        """An attribute that is true or false."""
        value = self._attribute(name)
        if not isinstance(value, np.bool_):
            raise self._unusable(name, value, "true or false")
        return bool(value)

    # ------------------------------------------------------------------- datasets
    def floats(self, name: str, ndim: int) -> np.ndarray:
        """A dataset of numbers as float64."""
        array = self._array(name, "f", ndim)
        with np.errstate(over="ignore"):  # of a wider type: infinite, and refused as that
            return array.astype(np.float64)

    def parameters(self, name: str, ndim: int) -> np.ndarray:
        """A dataset of numbers as float32 or float64, as it is stored."""
        array = self._array(name, "f", ndim)
        if array.dtype not in (np.float32, np.float64):
            raise ModelFileError(
                f"dataset {self.place}/{name} has type {array.dtype}, expected float32 or float64"
            )
        return array

    def numbers(self, name: str) -> np.ndarray:
        """A dataset of numbers with as many axes, and of the type, that it is stored with."""
        item = self._dataset(name)
        if item.dtype.kind not in "fiu":
            raise ModelFileError(f"dataset {self.place}/{name} has type {item.dtype}, no numbers")
        return np.asarray(item[()], order="C")

    def integers(self, name: str, ndim: int) -> np.ndarray:
        """A dataset of integers as int64."""
        array = self._array(name, "iu", ndim)
        largest = int(array.max(initial=0))
        if largest > np.iinfo(np.int64).max:
            raise ModelFileError(f"dataset {self.place}/{name} holds {largest}: out of range")
        return array.astype(np.int64)

    def flags(self, name: str, ndim: int) -> np.ndarray:
        """A dataset of bools."""
        return self._array(name, "b", ndim)

    def text(self, name: str) -> str:
        """A dataset that is one string."""
        return self._texts(name, 0)[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """A dataset that is a list of strings."""
        return self._texts(name, 1)

    def _array(self, name: str, kinds: str, ndim: int) -> np.ndarray:
        item = self._dataset(name)
        if item.dtype.kind not in kinds or item.ndim != ndim:
            raise ModelFileError(
                f"dataset {self.place}/{name} has type {item.dtype} and {item.ndim} axes; "
                f"expected kind '{kinds}' and {ndim} axes"
            )
        array = np.asarray(item[()], order="C")
        return array.view(np.uint8) != 0 if kinds == "b" else array

    def _texts(self, name: str, ndim: int) -> tuple[str, ...]:
        item = self._dataset(name)
        if h5py.check_string_dtype(item.dtype) is None or item.ndim != ndim:
            wanted = "a list of strings" if ndim else "a string"
            raise ModelFileError(f"dataset {self.place}/{name} is not {wanted}")
        if item.size > _MAX_TEXTS:
            raise ModelFileError(
                f"dataset {self.place}/{name} has {item.size} strings, expected at most "
                f"{_MAX_TEXTS}"
            )
        strings, found = item.asstr(), []
        for index in np.ndindex(item.shape):
            found.append(str(strings[index]))
            self._account(f"dataset {self.place}/{name}", len(found[-1]))
        return tuple(found)

    def _dataset(self, name: str) -> h5py.Dataset:
        item, place = self._member(name, h5py.h5o.TYPE_DATASET, "dataset"), f"{self.place}/{name}"
        creation = item.id.get_create_plist()
        # before its type or shape are asked for, which opens the sources of a virtual dataset
        if creation.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise ModelFileError(f"dataset {place} is virtual or compact, expected plain storage")
        if creation.get_external_count():
            raise ModelFileError(
                f"dataset {place} is stored in another file; only what lies in the file itself is "
                "read"
            )
        if creation.get_nfilters():
            raise ModelFileError(f"dataset {place} is compressed or filtered, expected plain data")
        if item.id.get_type().get_class() not in _PLAIN:
            raise ModelFileError(f"dataset {place} holds something else than numbers or strings")
        self._account(f"dataset {place}", item.nbytes)
        if item.nbytes > item.id.get_storage_size():  # reading it would invent the rest
            raise ModelFileError(f"dataset {place} is not stored as a whole")
        return item

    def _account(self, what: str, n_bytes: int) -> None:
        """Refuse to read more than the file is long: data is there once."""
        if n_bytes > self._left[0]:
            size = self._group.file.id.get_filesize()
            raise ModelFileError(f"{what} claims {n_bytes} bytes more than a file of {size} holds")
        self._left[0] -= n_bytes
