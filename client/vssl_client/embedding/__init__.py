"""What embeds images, seen from a job: one narrow contract, and work on several items at once."""
