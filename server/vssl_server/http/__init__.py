"""The HTTP side: connections, the application, and a room for each family of routes. May import every room but
process and grpc.
"""
