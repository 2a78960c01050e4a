"""Image files as pixels: names, decoding, degradations. May import errors, files, caches, arrays and memory."""
