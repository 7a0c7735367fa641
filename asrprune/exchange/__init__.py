"""Language models from and to other toolkits: one file a partner."""
