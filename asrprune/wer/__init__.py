"""Words and references become numbers: WER, its confidence interval, oracle WER, score files."""
