"""Text on its way to the LM: normalisation, SentencePiece, the memory-mapped token stream."""
