"""Loading and unloading models while the server runs."""
