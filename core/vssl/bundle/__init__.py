"""The bundle, the one contract between export and everything that uses a model: its manifest, reading and writing it.
May import images.
"""
