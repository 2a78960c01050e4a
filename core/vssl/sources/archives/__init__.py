"""Archives read in place: zip and tar, their members and indexes, and folders of shards. May import images and the
sources' own parts, but for `opening` and `in_memory`.
"""
