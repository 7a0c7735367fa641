"""First passes that can be run from here: audio of a lhotse CutSet to n-best lists and lattices."""
