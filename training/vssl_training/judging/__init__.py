"""Figures while training and after it. May import encoder and what stands before it."""
