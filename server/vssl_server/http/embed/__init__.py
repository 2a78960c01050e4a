"""`POST /v1/embed`: its options, body and answers."""
