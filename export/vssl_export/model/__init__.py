"""The network as ONNX, in other precisions, as a TensorRT plan. Imports training and core."""
