"""A whole run: budget, phases, progress, loggers. May import every room."""
