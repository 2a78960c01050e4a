"""One served model: pipeline, batches, cache, statistics, health. May import decoding and what stands after it."""
