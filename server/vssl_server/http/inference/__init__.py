"""The Open Inference Protocol over REST, `/v2`. May import inference_v2, `http.exchange` and what stands
after it.
"""
