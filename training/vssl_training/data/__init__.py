"""What a run trains on: in memory or streamed. May import run and recipe."""
