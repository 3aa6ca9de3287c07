"""Device time per kernel, product and copy of a step, for sizes of chunks and both precisions.

`stages.py cuda|emulated SYSTEM MODEL TIMES`: copper (4 atoms) or water (192), TIMES along each
axis.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from devices import Clock, Span, Timed, opened
from lmp_dp.engine.gpu import engine
from lmp_dp.engine.model_cache import opened as model_of
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs
from lmp_dp.model.precision import cast
from systems import DATA, system

#: Å
SKIN = 1.0
#: Untimed steps, of which the first builds lists; then as many whose time is taken, without marks.
STEPS = 4


@dataclass(frozen=True)
class Part:
    """All launches of one kernel, products of one shape, or copies in one direction, of a step.

    Attributes
    ----------
    launches : int
    seconds : float
        On the device.
    tflops, gb_s : float
        0 where operations or bytes are not known: the former are of products, the latter of copies.
    """

    name: str
    launches: int
    seconds: float
    tflops: float
    gb_s: float


@dataclass(frozen=True)
class Step:
    """A step on a device, in parts.

    Attributes
    ----------
    device, system, precision : str
    chunk_bytes, n_atoms, n_all : int
        `n_all` with ghosts.
    first, seconds : float
        The first step with its lists, and the median of later ones, on the host's clock (s).
    ceiling : float
        Of products in this precision, as `facts` found it (TFLOP/s); 0 if it was not measured.
    parts : list of Part
        The longest first.
    """

    device: str
    system: str
    precision: str
    chunk_bytes: int
    n_atoms: int
    n_all: int
    first: float
    seconds: float
    ceiling: float
    parts: list[Part]

    def ns(self, seconds: float) -> float:
        """Per atom."""
        return seconds * 1e9 / self.n_atoms

    @property
    def title(self) -> str:
        """One line."""
        busy = sum(part.seconds for part in self.parts)
        return (
            f"{self.system} {self.precision}, chunks of {self.chunk_bytes >> 20} MiB: step "
            f"{self.ns(self.seconds):.1f} ns per atom (first {self.ns(self.first):.0f}), "
            f"{self.ns(busy):.1f} in {sum(part.launches for part in self.parts)} launches, "
            f"{self.ns(self.seconds - busy):.1f} between them"
        )

    @property
    def table(self) -> str:
        """Launches, ns per atom, share of the time in launches and rate of each part."""
        busy = sum(part.seconds for part in self.parts)
        lines = []
        for part in self.parts:
            rate = f"  {part.tflops:6.1f} TFLOP/s" if part.tflops else ""
            if rate and self.ceiling:
                rate += f", {part.tflops / self.ceiling:.0%} of the ceiling"
            if part.gb_s:
                rate = f"  {part.gb_s:6.1f} GB/s"
            lines.append(
                f"    {part.name:28} {part.launches:4} x {self.ns(part.seconds):8.1f} "
                f"{part.seconds / busy:4.0%}{rate}"
            )
        return "\n".join(lines)


def parts_of(spans: Sequence[Span], clock: Clock) -> list[Part]:
    """Spans of the same name together, the longest first."""
    seconds: dict[str, list[float]] = defaultdict(list)
    flop: dict[str, float] = defaultdict(float)
    n_bytes: dict[str, float] = defaultdict(float)
    for span in spans:
        seconds[span.name].append(clock.seconds(span.begin, span.end))
        flop[span.name] += span.flop
        n_bytes[span.name] += span.n_bytes
    parts = []
    for name, times in seconds.items():
        total = max(sum(times), 1e-9)
        rates = flop[name] / total / 1e12, n_bytes[name] / total / 1e9
        parts.append(Part(name, len(times), total, *rates))
    return sorted(parts, key=lambda part: -part.seconds)


def ceiling(facts: Path | None, precision: str) -> float:
    """The fastest product in a precision (TFLOP/s) of what `facts` wrote; 0 without it."""
    if facts is None or not facts.exists():
        return 0.0
    found = json.loads(facts.read_text()).get("device", {})
    return max(
        (v for name, v in found.items() if name.endswith(f"_{precision}_tflops")), default=0.0
    )


def measure(
    device: Timed, clock: Clock, evaluated: engine.GpuEngine, nb: Neighbourhood, labels: Step
) -> Step:
    """The median step, and one more in parts; `labels` has the rest.

    Profilers see the step in parts only, if they are told to wait (cudaProfilerStart).
    """
    walls = []
    for _ in range(2 * STEPS):
        began = time.perf_counter()
        evaluated.compute(nb, Outputs(virial=False))
        device.synchronize()
        walls.append(time.perf_counter() - began)
    profiler: Any = getattr(getattr(device.xp, "cuda", None), "profiler", None)
    spans = device.spans = []
    if profiler is not None:
        profiler.start()
    evaluated.compute(nb, Outputs(virial=False))
    device.synchronize()
    if profiler is not None:
        profiler.stop()
    device.spans = None
    return replace(
        labels,
        first=walls[0],
        seconds=float(np.median(walls[STEPS:])),
        parts=parts_of(spans, clock),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0; what cannot be measured is an error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", choices=("cuda", "emulated"))
    parser.add_argument("system", choices=sorted(DATA))
    parser.add_argument("model", type=Path)
    parser.add_argument("times", type=int)
    parser.add_argument("--chunks", type=int, nargs="+", default=[256, 512, 1024, 2048], help="MiB")
    parser.add_argument("--precisions", nargs="+", default=["float64", "float32"])
    parser.add_argument("--facts", type=Path, help="what facts.py wrote, for the ceilings")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    model = model_of(args.model)
    device, clock = opened(args.device)
    engine.GRAPH_CENTRES = 0  # kernels of a recorded step have no marks
    nb = system(args.system, model.type_map, args.times).neighbourhood(model.rcut, SKIN)
    steps: list[Step] = []
    print(f"{device.name}: {args.system}, {nb.n_local} atoms, {len(nb.types_a)} with ghosts")
    for precision in args.precisions:
        for mebibytes in args.chunks:
            engine.CHUNK_BYTES = mebibytes << 20
            evaluated = engine.GpuEngine(cast(model, precision), device)
            labels = Step(
                device.name, args.system, precision, mebibytes << 20, nb.n_local,
                len(nb.types_a), 0.0, 0.0, ceiling(args.facts, precision), [],
            )  # fmt: skip
            steps.append(measure(device, clock, evaluated, nb, labels))
            evaluated.close()
            print(steps[-1].title, flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(step) for step in steps], indent=1))
    for precision in args.precisions:
        best = min((s for s in steps if s.precision == precision), key=lambda step: step.seconds)
        print(f"best: {best.title}\n{best.table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
