"""How requests travel: HTTP, gRPC, Triton, or an engine in this process. May import exchange and results."""
