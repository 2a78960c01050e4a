"""Nearest neighbours and scores between Gaussians, in numpy. May import the engine's answers and what stands before
it.
"""
