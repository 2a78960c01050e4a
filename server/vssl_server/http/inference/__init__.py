"""The Open Inference Protocol over REST, `/v2`."""
