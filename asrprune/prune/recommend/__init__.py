"""The pruning plan for an LM and a budget, as the numbers of the study say.

- ``table``: what the study measured, packaged as ``study.json``
- ``plan``: budgets, and the plans that meet one
"""
