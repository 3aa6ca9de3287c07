"""A pair table around centres of one element."""

from __future__ import annotations

from lmp_dp.engine.forms import PairTerm
from lmp_dp.engine.lowering.moment import selection_of
from lmp_dp.model.pair_table import PairTable


def lower_pair_table(table: PairTable, t: int) -> PairTerm:
    """What centres of element `t` take of a pair table."""
    selection = selection_of(table.environment, t)
    return PairTerm(
        selection=selection,
        nearness=selection if table.nearness is None else selection_of(table.nearness, t),
        start=table.start,
        step=table.step,
        coefficients_tve=table.coefficients_ttve[t],
        alpha=table.alpha,
        switch_start=table.switch_start,
        switch_width=table.switch_width,
        bias=float(table.bias_t[t]),
        share_of_centre=table.share_of_centre,
    )
