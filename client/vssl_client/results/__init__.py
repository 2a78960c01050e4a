"""Results: rows by number or name, put together, saved and shown. Imports core alone."""
