"""Measuring LM scoring: speed with warm-up and interleaved repeats, agreement with the reference
engine, and what it was measured on."""
