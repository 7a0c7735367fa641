"""The word lattice as arrays, and its algebra: paths, posteriors, unions, oracle, minimum Bayes
risk."""
