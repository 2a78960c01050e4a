"""Encoded images to pixels in a pool of threads. May import access and what stands after it."""
