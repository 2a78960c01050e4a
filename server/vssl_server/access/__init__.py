"""Who may come in: API keys, admission by announced bytes, and what surrounds every request. May import wire and what
stands after it.
"""
