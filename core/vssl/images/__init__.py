"""Image files as pixels: names, decoding, degradations, whole sets in memory. May import errors, files, caches and
memory.
"""
