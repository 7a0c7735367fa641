"""Training a Transformer LM: sentence-aligned batches, the loss, optimisers, the loop that
fine-tuning between pruning steps shares, several processes, and resuming."""
