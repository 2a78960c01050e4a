"""Galleries over HTTP: their routes, and what these share. May import `embed` and what stands after it."""
