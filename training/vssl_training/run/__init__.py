"""The run folder, its processes, and the switches of its numerics. May import recipe."""
