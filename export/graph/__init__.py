"""The backbone as an ONNX graph: weights, preprocessing, exact rewrites, inspection and timing."""
