"""What a device keeps over a restart: counters, answers that a true label may still come back for, policies."""
