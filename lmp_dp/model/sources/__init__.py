"""Readers of other programs' model files. Nothing of them is ever run."""
