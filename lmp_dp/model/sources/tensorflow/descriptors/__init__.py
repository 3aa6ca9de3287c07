"""The kinds of descriptors, a module each; all are registered when this package is imported."""

import importlib
import pkgutil

from lmp_dp.model.sources.tensorflow.registry import READERS

__all__ = ["READERS"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
