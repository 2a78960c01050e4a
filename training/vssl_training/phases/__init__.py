"""The two phases: encoder, then variance; optimisers, schedules, health. May import judging and what is before it."""
