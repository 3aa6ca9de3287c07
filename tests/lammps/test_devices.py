"""Which device a rank takes, and what backend auto becomes."""

from __future__ import annotations

import pytest

from lmp_dp.engine import backends
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.errors import BackendError
from lmp_dp.lammps import devices
from lmp_dp.lammps.bridge import Run


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "device_count", lambda: 2)
    monkeypatch.setattr(cuda_device, "device_name", lambda index: f"number {index}")
    monkeypatch.setattr(backends, "automatic", lambda index: ("gpu", ""))


def chosen(rank: int, ranks: int, **options: object) -> tuple[devices.Choice, dict[str, object]]:
    run = Run()
    run.local_rank, run.local_size = rank, ranks
    return devices.choose(run, options), options


@pytest.mark.parametrize("options", [{}, {"backend": "auto"}, {"backend": "gpu"}])
def test_ranks_take_devices_in_turn(two_devices, options) -> None:
    for rank in (0, 1):
        choice, found = chosen(rank, 2, **options)
        assert found == {**options, "device": rank}
        assert choice.name.endswith(f" -> GPU {rank} (number {rank})")
        assert choice.remark == ""


def test_devices_are_shared_only_when_asked_for(two_devices) -> None:
    choice, found = chosen(2, 3, backend="gpu")
    assert found == {"backend": "gpu", "device": 0}
    assert "3 ranks of" in choice.remark
    assert choice.remark.endswith("share 2 GPU(s): one rank per GPU is faster")
    choice, found = chosen(2, 3)
    assert found["backend"] == "cpu"
    assert choice.remark.startswith("backend auto is cpu: 3 ranks of")


def test_each_rank_sees_a_device_of_its_own(monkeypatch) -> None:
    """srun --gpus-per-task=1 on a node of two."""
    monkeypatch.setattr(cuda_device, "device_count", lambda: 1)
    monkeypatch.setattr(cuda_device, "device_name", lambda _index: "of its own")
    monkeypatch.setattr(backends, "automatic", lambda _index: ("gpu", ""))
    assert chosen(1, 2)[1] == {"device": 0, "backend": "cpu"}
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    for rank in (0, 1):
        choice, found = chosen(rank, 2)
        assert found == {"device": 0}
        assert choice.remark == ""
    assert "3 ranks of" in chosen(2, 3)[0].remark


def test_a_device_that_fails_is_named(two_devices, monkeypatch) -> None:
    failing = {1: ("cpu", "forces differ")}
    monkeypatch.setattr(backends, "automatic", lambda index: failing.get(index, ("gpu", "")))
    assert chosen(0, 2)[1] == {"device": 0}
    choice, found = chosen(1, 2)
    assert found["backend"] == "cpu"
    assert choice.remark == "backend auto is cpu: forces differ"
    assert choice.name.endswith(", backend cpu: forces differ")


def test_without_a_device_gpu_is_refused_and_auto_is_cpu(monkeypatch) -> None:
    def missing() -> int:
        raise BackendError("no device")

    monkeypatch.setattr(cuda_device, "device_count", missing)
    assert chosen(0, 1) == (devices.Choice(), {})
    assert chosen(0, 1, backend="cpu") == (devices.Choice(), {"backend": "cpu"})
    with pytest.raises(BackendError, match="no device"):
        chosen(0, 1, backend="gpu")
