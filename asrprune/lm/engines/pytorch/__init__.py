"""torch: the reference engine, keys and values kept between passes, the padded baseline, and
torch.compile."""
