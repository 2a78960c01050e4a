"""Galleries filled from folders and files: where they lie, images as rows, jobs, metadata.

May import folder and what stands below it, and vssl_gallery.
"""
