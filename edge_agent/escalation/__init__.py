"""The way to the cloud: when to try it (breaker, escalator) and how (client)."""
