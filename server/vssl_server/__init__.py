"""The server: HTTP over one engine; no torch."""
