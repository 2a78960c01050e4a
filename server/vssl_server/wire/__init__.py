"""What travels: bodies, JSON, forms, tensors, images, errors, TLS, and how much of it is held. May import observed and
settings.
"""
