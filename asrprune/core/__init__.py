"""The nouns of the pipeline: plain data, no input or output, no torch."""
