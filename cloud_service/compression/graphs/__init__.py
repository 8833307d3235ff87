"""Networks as ONNX graphs of the operators that ONNX Runtime runs best, written node by node."""
