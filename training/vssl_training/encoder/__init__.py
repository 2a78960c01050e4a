"""Networks: backbones, heads, whitening, the embedder that is exported. May import objective and what stands before
it.
"""
