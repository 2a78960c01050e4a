"""Who may ask, and how much may be in the server at once. May import wire and what stands after it."""
