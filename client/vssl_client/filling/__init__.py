"""Files into a gallery: the images of a source, what a table says of them, and folders that `vssl embed` wrote.

May import galleries, folder, embedding, parts, results and errors.
"""
