"""The engine in another process: memory that both share, messages about it, and the two ends. May import `engine`."""
