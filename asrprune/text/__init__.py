"""Text on its way to the LM: normalisation, tokenisers, the memory-mapped token stream."""
