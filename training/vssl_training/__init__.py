"""Training: objective, encoder, loop, recipes."""
