"""A pruning run: plan, schedule, fine-tuning with distillation, and the family of sizes on disk."""
