"""Calibrated uncertainty: percentiles, flags, novelty, matches and their probabilities, applied with numpy and fitted
with scikit-learn. May import everything of core but the command.
"""
