"""Files of embeddings: rows, a module for each format, folders read back, a result as a file or a table.

May import results and errors.
"""
