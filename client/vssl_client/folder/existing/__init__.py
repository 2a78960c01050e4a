"""What the folder for the embeddings holds when a job begins: its parts, rows and paths, and whether they are of the
same source.

May import `folder.reading`, parts, formats, embedding and errors.
"""
