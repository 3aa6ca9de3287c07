"""Members of a hybrid: their precision, and the list that those of the DP family share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lmp_dp.errors import ModelFileError
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.mapped import replace_parameters
from small_model import small_model


def member(rules: str, rcut: float, sel: tuple[int, int]) -> SeE2A:
    """se_e2_a of two elements that see each other."""
    small = small_model().descriptor
    assert isinstance(small, SeE2A)
    nets = dataclasses.replace(small.nets, net_tt=np.array([[0, 1], [1, 0]]))
    environment = dataclasses.replace(
        small.environment,
        rules=rules,
        rcut=rcut,
        sel_t=np.array(sel),
        excluded_tt=np.zeros((2, 2), bool),
    )
    return SeE2A(environment, nets, small.axis_neuron)


def test_members_of_two_precisions_are_refused() -> None:
    one = member("TF", 4.0, (5, 6))
    other = replace_parameters(one, lambda parameters: parameters.astype(np.float32))
    assert Hybrid((one, one)).dtype == np.float64
    with pytest.raises(ModelFileError, match="in float32 and float64, expected one precision"):
        Hybrid((one, other))


def test_the_list_that_members_share() -> None:
    """Of each element as many as a member has at most, up to the longest cutoff."""
    shared = Hybrid((member("DP", 4.0, (5, 6)), member("DP", 3.0, (7, 2))))
    for part in shared.parts:
        assert (part.environment.n_nearest, part.environment.reach) == (7 + 6, 4.0)
        assert part.environment.n_candidates == 13
    alone = Hybrid((member("TF", 4.0, (5, 6)), member("TF", 3.0, (7, 2))))
    for part in alone.parts:
        assert (part.environment.n_nearest, part.environment.reach) == (None, None)
        assert part.environment.n_candidates == 0
