"""Where images come from: folders, lists, archives and shards, and the count of what is passed over. May import images
and what stands before it. `opening` alone knows every kind.
"""
