"""Formats of n-best lists and lattices: one file a format, one row each of FORMATS in ``table``.

Scores become natural logarithms, higher is better, in the reader of the format and nowhere else.
"""
