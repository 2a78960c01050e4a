"""One model: its batches, cache, statistics and health. May import decoding and what stands after it."""
