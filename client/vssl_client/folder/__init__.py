"""The folder job: a source of any size into a folder of embeddings, resumable, here or on Ray.

May import client, embedding, parts, results, formats and errors.
"""
