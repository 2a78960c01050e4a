"""Loading and unloading models while the server runs. May import `http.inference` and what stands after it."""
