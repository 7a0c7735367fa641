"""Scores of hypotheses under a Transformer: of whole sentences, of their words, and of those alone
that can win (early termination)."""
