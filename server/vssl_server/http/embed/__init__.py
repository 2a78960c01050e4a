"""`POST /v1/embed`: its options, body and answers. May import `http.exchange` and what stands after it."""
