"""Galleries in Qdrant: sharded clusters. Tested on the local mode of its client. May import what all drivers share.

Qdrant changes points one by one and forgets the old ones. `versions` says how a call becomes whole or nothing all the
same, and how a read sees one state.
"""
