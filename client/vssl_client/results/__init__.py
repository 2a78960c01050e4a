"""What embedding images gives: results, results put together, results in words.

May import errors. One exception: `EmbeddingResult.save` and its sisters import `parts.saving` on use.
"""
