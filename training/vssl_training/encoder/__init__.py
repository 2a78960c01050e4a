"""Networks: backbones, heads, the embedding, and the embedder that is exported. May import objective, views, data, run,
recipe.
"""
