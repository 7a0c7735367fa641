"""Language models: the Transformer, its training, checkpoints and scoring; n-gram models."""
