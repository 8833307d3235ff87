"""Certifies the gate: from predictions on held-out data to thresholds with a proven kept risk. Pure."""
