"""The plan that the numbers of recipes/study say for an LM and a budget.

``table`` reads ``study.json``, which ``local/study/write_results.py`` makes of the study's results;
``choose`` finds the plans of a budget in it.
"""
