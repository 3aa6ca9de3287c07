"""What kind of values a field of a model holds; a model file is read by these kinds."""

from __future__ import annotations

from typing import Annotated

import numpy as np

#: float64.
Floats = Annotated[np.ndarray, "floats"]
#: float32 or float64: the precision in which a net is evaluated.
Parameters = Annotated[np.ndarray, "parameters"]
#: int64.
Integers = Annotated[np.ndarray, "integers"]
#: bool.
Flags = Annotated[np.ndarray, "flags"]
#: A string of any length.
Text = Annotated[str, "text"]
