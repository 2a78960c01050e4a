"""Networks: backbones, heads, whitening, and the embedder that is exported. May import objective, views, data, run,
recipe.
"""
