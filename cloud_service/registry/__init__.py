"""The registry: bundles cut into chunks, signed metadata that vouches for them, and the keys that sign."""
