"""Files of embeddings: the columns that all have, and a module for each format.

May import errors.
"""
