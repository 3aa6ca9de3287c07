"""Input scripts of the runs in `compare`: a few systems, with any pair style in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INPUTS = Path(__file__).resolve().parents[2] / "lammps_inputs"
STEPS = 40


@dataclass(frozen=True)
class System:
    """Atoms in a box, ready for a pair style.

    Attributes
    ----------
    model : path
    elements : tuple of str
        Element of each LAMMPS type; NULL for one that the model does not see.
    masses : tuple of float
        Of each LAMMPS type (g/mol).
    timestep : float
        ps.
    atoms : str
        LAMMPS commands up to the atoms and their velocities.
    """

    model: Path
    elements: tuple[str, ...]
    masses: tuple[float, ...]
    timestep: float
    atoms: str

    def commands(self, style: str, others: str = "") -> str:
        """`pair_style` and `pair_coeff`; `style` is one style with its arguments, or `WEIGHT STYLE
        WEIGHT STYLE` where `others` names the second."""
        names = " ".join(self.elements)
        if others:
            first = style.split()[1]
            return (
                f"pair_style hybrid/scaled {style}\n"
                f"pair_coeff * * {first} {names}\npair_coeff * * {others} {names}\n"
            )
        if "NULL" in self.elements:
            absent = self.elements.index("NULL") + 1
            return (
                f"pair_style hybrid/overlay {style} lj/cut 4.0\n"
                f"pair_coeff * * {style.split()[0]} {names}\n"
                f"pair_coeff * {absent} lj/cut 0.0 1.0\n"
            )
        return f"pair_style {style}\npair_coeff * * {names}\n"

    def script(self, pair: str, output: str) -> str:
        """A run of STEPS steps that writes OUTPUT.dump and OUTPUT.txt about its last one."""
        masses = "".join(f"mass {t} {m}\n" for t, m in enumerate(self.masses, 1))
        numbers = " ".join(f"$({word}:%.17g)" for word in NUMBERS)
        return f"""
units metal
atom_style atomic
{self.atoms}
{masses}
velocity all create 300 4711
{self.drift}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
{pair}
timestep {self.timestep}
fix 1 all nve
compute e all pe/atom
compute e_sum all reduce sum c_e
compute v all pressure NULL virial
thermo {STEPS}
thermo_style custom step pe c_e_sum {" ".join(f"c_v[{k}]" for k in range(1, 7))}
run {STEPS}
write_dump all custom {output}.dump id type x y z fx fy fz c_e modify sort id format float %.17g
print "{numbers}" file {output}.txt
"""

    @property
    def drift(self) -> str:
        """A velocity of all atoms, for those that leave a rank."""
        return "velocity all set -150 NULL NULL sum yes" if self is SYSTEMS["empty"] else ""


#: What a run prints after its last step.
NUMBERS = ("pe", "lx", "ly", "lz", "xy", "xz", "yz", *(f"c_v[{k}]" for k in range(1, 7)))

WATER = INPUTS / "models" / "water.h5"
COPPER = INPUTS / "models" / "cu.h5"
OXYGEN, HYDROGEN, CU = 15.999, 1.008, 63.546

_FCC = """
lattice fcc 3.61
region box block 0 4 0 4 0 4
create_box {types} box
create_atoms 1 box
"""

SYSTEMS = {
    "water": System(
        WATER, ("O", "H"), (OXYGEN, HYDROGEN), 0.0005, f"read_data {INPUTS}/water192.data"
    ),
    "triclinic": System(
        WATER,
        ("O", "H"),
        (OXYGEN, HYDROGEN),
        0.0005,
        f"read_data {INPUTS}/water192.data\n"
        "change_box all triclinic\n"
        "change_box all xy final 0.6 xz final 0.3 yz final -0.4 remap units box",
    ),
    "swapped": System(
        WATER,
        ("H", "O"),
        (HYDROGEN, OXYGEN),
        0.0005,
        f"read_data {INPUTS}/water192.data\n"
        "group oxygen type 1\ngroup hydrogen type 2\n"
        "set group oxygen type 2\nset group hydrogen type 1",
    ),
    "null": System(
        COPPER,
        ("Cu", "NULL"),
        (CU, 39.948),
        0.001,
        _FCC.format(types=2) + "set type 1 type/fraction 2 0.1 4711",
    ),
    # On two ranks all atoms start on the second and end on the first, as their last ones in reach.
    "empty": System(
        COPPER,
        ("Cu",),
        (CU,),
        0.001,
        "processors * 1 1\nregion box block 0 40 0 40 0 40\ncreate_box 1 box\n"
        + "".join(
            f"create_atoms 1 single {20.5 + x} {20 + y} {20 + z} units box\n"
            for x, y, z in (
                (0, 0, 0),
                (2.4, 0.3, 0),
                (1.1, 2.2, 0.2),
                (1.3, 0.8, 2.1),
                (2.6, 2.3, 2),
            )
        ),
    ),
}

#: Half of the box is so dense that atoms have more neighbours than the model takes.
DENSE_ON_ONE_SIDE = f"""
processors * 1 1
units metal
atom_style atomic
region box block 0 40 0 12 0 12
create_box 1 box
region dense block 0 9 0 12 0 12
region thin block 25 35 0 12 0 12
lattice fcc 2.4
create_atoms 1 region dense
lattice fcc 4.0
create_atoms 1 region thin
mass 1 {CU}
"""

UNITS_REAL = f"""
units real
atom_style atomic
{_FCC.format(types=1)}
mass 1 {CU}
"""
