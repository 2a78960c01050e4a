"""Random views of whole batches. May import recipe."""
