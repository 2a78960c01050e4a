"""What embeddings and uncertainties are judged by. May import search and what stands before it."""
