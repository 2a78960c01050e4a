"""The Open Inference Protocol over gRPC. May import every room but process and http."""
