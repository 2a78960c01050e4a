"""What to do next, without doing it: retries, servers in turn, requests that prove too large. No I/O.

May import results and errors.
"""
