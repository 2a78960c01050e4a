"""The bundle, the one contract between export and everything that uses a model: its manifest, reading, writing, and the
default model. May import images and what stands before it.
"""
