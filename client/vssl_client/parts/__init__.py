"""Folders of embeddings: the rows that a job writes, and folders read back.

May import results, formats and errors.
"""
