"""Updates of devices: what travels, and what both tiers must understand alike."""
