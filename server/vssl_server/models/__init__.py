"""Which models are served, and how long a request may take. May import engine and what stands after it."""
