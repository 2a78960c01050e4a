"""Export: from a run to a bundle.

Imports training and core. Its rooms, each may import those after it: command, bundle_writer and weights, triton and
checking, model and source.
"""
