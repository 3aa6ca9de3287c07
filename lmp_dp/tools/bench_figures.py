"""Figures of ``lmp-dp bench`` from its runs: medians, spreads, and ratios of the two styles."""

from __future__ import annotations

from collections.abc import Sequence

from lmp_dp.tools.bench_report import DEEPMD, DP, Figures, Ratio, Run, Spread


def figures_of(runs: Sequence[Run]) -> list[Figures]:
    """Medians and spreads, configuration by configuration."""
    result = []
    for style, replicate, ranks, threads in dict.fromkeys(
        (run.style, tuple(run.replicate), run.ranks, run.threads) for run in runs
    ):
        same = [
            run
            for run in runs
            if (run.style, run.ranks, run.threads) == (style, ranks, threads)
            and run.replicate == list(replicate)
        ]
        result.append(
            Figures(
                style=style,
                replicate=list(replicate),
                n_atoms=same[0].n_atoms,
                ranks=ranks,
                threads=threads,
                us_per_atom_step=Spread.of([run.us_per_atom_step for run in same]),
                startup_s=Spread.of([run.startup_s for run in same]),
                peak_memory_mib=Spread.of([sum(run.peak_memory_mib) for run in same]),
            )
        )
    return result


def ratios_of(figures: Sequence[Figures], runs: Sequence[Run]) -> list[Ratio]:
    """How many times faster pair dp is, where both styles ran on equally many cores."""

    def speed(one: Figures) -> float:
        return one.us_per_atom_step.median

    def times(one: Figures) -> list[float]:
        return [
            run.us_per_atom_step
            for run in sorted(runs, key=lambda run: run.repeat)
            if (run.style, run.replicate, run.ranks, run.threads)
            == (one.style, one.replicate, one.ranks, one.threads)
        ]

    result = []
    for replicate, cores in dict.fromkeys((tuple(f.replicate), f.layout.cores) for f in figures):
        group = [f for f in figures if tuple(f.replicate) == replicate and f.layout.cores == cores]
        ours = [f for f in group if f.style == DP]
        theirs = [f for f in group if f.style == DEEPMD]
        if not ours or not theirs:
            continue
        deepmd = min(theirs, key=speed)
        for dp in ours:
            quotients = [b / a for a, b in zip(times(dp), times(deepmd), strict=True)]
            result.append(
                Ratio(
                    n_atoms=dp.n_atoms,
                    cores=cores,
                    dp=str(dp.layout),
                    deepmd=str(deepmd.layout),
                    best=dp is min(ours, key=speed),
                    ratio=speed(deepmd) / speed(dp),
                    min=min(quotients),
                    max=max(quotients),
                )
            )
    return result


def energy_deviation(runs: Sequence[Run]) -> float:
    """Largest difference between the two styles in the energy per atom of the first step."""
    energies = {
        style: [r.energy_per_atom for r in runs if r.style == style] for style in (DP, DEEPMD)
    }
    return max((abs(a - b) for a in energies[DP] for b in energies[DEEPMD]), default=0.0)
