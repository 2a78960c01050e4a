"""What REST and gRPC share of the Open Inference Protocol. May import models and what stands after it."""
