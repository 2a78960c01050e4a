"""How requests travel: HTTP, gRPC, Triton, or an engine in this process.

May import embedding, exchange, inputs, options, results and errors.
"""
