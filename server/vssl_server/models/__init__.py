"""Which models are served, how they are found and replaced, and how long a request may take. May import engine and what
stands after it.
"""
