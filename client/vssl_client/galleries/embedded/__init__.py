"""A gallery whose store is opened here: rows made of embedded images, and read as answers. Needs the extra gallery.

May import what stands before it: answers, asked, contract and reading of galleries; exchange, results, inputs, errors.
"""
