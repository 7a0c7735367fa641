"""Pruning of a Transformer LM: criterion x method x schedule, fine-tuning, and a family of sizes.

In the order in which a run meets them: ``run/plan`` (what to do), ``groups`` (what can be removed),
``statistics`` (what the data says about it), ``criteria`` (a score per removable unit),
``selection`` and ``methods`` (what goes), ``masks`` and ``surgery`` (zeros, or matrices that really
become smaller), ``run`` (schedule, fine-tuning with distillation, the steps, the family on disk).
"""
