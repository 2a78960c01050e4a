"""The folder job: whole folders through an embedder, resumable, here or on Ray. May import parts, embedding and
results.
"""
