"""Files of embeddings: rows, and a module for each format. May import results."""
