"""Words and references become numbers: WER, its confidence interval, oracle WER, and the scoring
files of Kaldi, icefall and sclite."""
