"""Where images come from: folders, lists, archives, shards, and what of them is passed over. May import images and
what stands before it.
"""
