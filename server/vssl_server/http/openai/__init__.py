"""The routes in OpenAI's shape: `/v1/embeddings`, `/v1/models`."""
