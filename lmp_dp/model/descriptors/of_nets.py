"""What descriptors have of their embedding nets, in one environment."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from lmp_dp.model.descriptors.environment import Environment


class Nets(Protocol):
    """Embedding nets, or their tables."""

    @property
    def n_channels(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...


class OfNets:
    """A descriptor that is a part of its own, with a value for each channel of its nets."""

    environment: Environment
    nets: Nets

    @property
    def parts(self) -> tuple[Any, ...]:
        """Itself."""
        return (self,)

    @property
    def n_channels(self) -> int:
        """M: channels of the embedding nets."""
        return self.nets.n_channels

    @property
    def dtype(self) -> np.dtype:
        """Precision in which embedding and descriptor are evaluated."""
        return self.nets.dtype

    @property
    def n_out(self) -> int:
        """Length M of the descriptor of one atom."""
        return self.n_channels


class QuadraticOfNets(OfNets):
    """One with a value for each channel and each of the first `axis_neuron` ones."""

    axis_neuron: int

    @property
    def n_out(self) -> int:
        """Length M * axis_neuron of the descriptor of one atom."""
        return self.n_channels * self.axis_neuron
