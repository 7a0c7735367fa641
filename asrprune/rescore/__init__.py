"""Rescoring: LM scores of n-best lists, their weights, and the choice of the best."""
