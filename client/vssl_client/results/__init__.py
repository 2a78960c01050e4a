"""What embedding images gives: results, results put together, results in words, as files and tables.

May import formats and errors.
"""
