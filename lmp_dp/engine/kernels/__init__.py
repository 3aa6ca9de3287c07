"""Compiled twins of the hot stages: numba here; same names and meaning as in the reference."""
