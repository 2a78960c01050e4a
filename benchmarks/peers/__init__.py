"""The servers that ours is measured beside, each as its own documentation shows it, over the same file and decoding."""
