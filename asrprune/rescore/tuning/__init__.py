"""Tuning on a dev set: score weights by exact line search (MERT), and the posterior scale of
minimum Bayes risk."""
