"""Bytes of requests and answers: bodies, JSON, forms, tensors, errors. May import observed and settings."""
