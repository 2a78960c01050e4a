"""Where a gallery's rows live: the contract, what all drivers share, and a room for each driver.

May import `errors` of this package, and core. A driver imports its database on use, so that the others need not be
installed.
"""
