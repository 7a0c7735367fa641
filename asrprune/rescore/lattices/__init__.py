"""Lattice rescoring: one file a family of modes, one row each of LATTICE_MODES in ``modes``."""
