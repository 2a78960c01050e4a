"""Work that takes longer than a request: jobs that one asks about later, and answers that are computed once and kept.
May import wire, observed and settings.
"""
