"""n-best rescoring: the weighted total of every hypothesis, and the best of each list."""
