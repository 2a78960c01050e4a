"""Recipes: everything that decides what a run computes. Imports core alone."""
