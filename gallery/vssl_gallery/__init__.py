"""Galleries: named sets of embedded images with metadata, on real vector stores. Depends on core alone; no torch."""
