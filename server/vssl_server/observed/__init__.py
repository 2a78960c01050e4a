"""What an operator sees: metrics, traces, the log of requests. May import settings."""
