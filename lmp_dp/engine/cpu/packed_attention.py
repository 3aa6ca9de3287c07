"""An `Attention` laid out for its stage: arrays in the precision of evaluation."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels import attention
from lmp_dp.engine.cpu.kernels.simd import aligned_copy
from lmp_dp.engine.cpu.packing import lanes_of, network_block
from lmp_dp.engine.forms import Attention
from lmp_dp.model.descriptors.se_atten import AttentionLayer


class PackedAttention:
    """An `Attention`, for `kernels.attention`; M and the heads' width are padded with zeros.

    Attributes
    ----------
    n_columns, width : int
        Padded M and width.
    """

    def __init__(self, form: Attention) -> None:
        dtype, of = form.dtype, form.layers
        self.lanes = lanes_of(dtype)
        self.blocks = [network_block(block, dtype) for block in form.blocks]
        self.n_columns = self.whole(form.rank)
        self.width = self.whole(of.layers[0].query.n_out)
        longest = max(3 * self.width, self.n_columns, self.whole(form.selection.n_slots))
        self._zeros = aligned_copy(np.zeros(longest), dtype)
        self.layers = [self._layer(layer, dtype) for layer in of.layers]
        self.padding_km = self._padded(form.padding_km, 4, self.n_columns).astype(dtype)
        self.options = attention.Options(
            dotr=of.dotr,
            normalize=of.normalize,
            smooth=of.smooth,
            masks=of.mask_diagonal,
            scale=dtype.type(of.scale),
            shortest=dtype.type(form.shortest),
            epsilon=dtype.type(of.epsilon),
            n_slots=form.selection.n_slots,
        )

    def whole(self, n: int) -> int:
        """`n` rounded up to whole vectors."""
        return -(-n // len(self.lanes)) * len(self.lanes)

    def _layer(self, layer: AttentionLayer, dtype: np.dtype) -> attention.Layer:
        heads = [net.layers[0] for net in (layer.query, layer.key, layer.value)]
        out, n_m, width = layer.out.layers[0], self.n_columns, self.width
        channels = len(layer.gamma_m)
        qkv_io = np.hstack([self._padded(of.weight_io, channels, width) for of in heads])
        bias_o = np.hstack([self._padded(of.bias_o[None], 1, width)[0] for of in heads])
        qkv_back_io = self._padded(qkv_io.T, 3 * width, n_m)

        def flat(array: np.ndarray) -> np.ndarray:
            return aligned_copy(array, dtype).reshape(-1)

        return attention.Layer(
            qkv=flat(qkv_io),
            qkv_bias=flat(bias_o),
            qkv_back=flat(qkv_back_io),
            out=flat(self._padded(out.weight_io, width, n_m)),
            out_bias=flat(self._padded(out.bias_o[None], 1, n_m)),
            out_back=flat(self._padded(out.weight_io.T, channels, width)),
            gamma=flat(layer.gamma_m),
            beta=flat(layer.beta_m),
            zeros=self._zeros,
        )

    @staticmethod
    def _padded(array: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
        n, m = array.shape
        return np.pad(array, ((0, n_rows - n), (0, n_columns - m)))
