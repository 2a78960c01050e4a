"""The server: HTTP and gRPC over served models; no torch.

Imports core. Its rooms, each may import those after it: process, http and grpc, inference_v2, models, engine, decoding,
access, wire, observed, settings.
"""
