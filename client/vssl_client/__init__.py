"""The client: SDK and folder jobs; no torch."""
