"""The reference backend: the papers' equations as they stand, one file per kind of descriptor.

It never lowers a model, so that it tests the lowering too.
"""

import importlib
import pkgutil

from lmp_dp.engine.reference.engine import ReferenceEngine

__all__ = ["ReferenceEngine"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
