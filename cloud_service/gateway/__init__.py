"""The gRPC gateway: who may ask, what is asked twice, and the way to the batcher and back."""
