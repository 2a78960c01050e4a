"""The routes in OpenAI's shape: `/v1/embeddings`, `/v1/models`. May import `http.exchange` and what stands
after it.
"""
