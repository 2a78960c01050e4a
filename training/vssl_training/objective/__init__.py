"""The loss, one pure function a term. May import recipe."""
