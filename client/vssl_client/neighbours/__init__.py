"""Embedded images looked up among others, and what a match is worth.

May import parts, formats and errors.
"""
