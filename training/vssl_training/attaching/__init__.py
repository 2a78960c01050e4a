"""Embedding and variance on a frozen backbone: images drawn, the cache of its statistics, choice, head,
judgement. May import everything of training but the commands.
"""
