"""A gallery at a server.

May import what stands before it: answers, asked and contract of galleries; exchange, inputs, errors.
"""
