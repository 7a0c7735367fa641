"""What changes a model: units and widths that leave, factors, the embedding."""
