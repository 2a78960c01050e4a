"""The driver for folders and S3: LanceDB inside this process, no server. May import what all drivers share.

Open a place after a process has forked: LanceDB runs threads of its own.
"""
