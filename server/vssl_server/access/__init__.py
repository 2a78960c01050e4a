"""Who may ask, and what is admitted. May import wire and what stands after it."""
