"""Updates on the device: fetched, verified, staged in the idle slot, proven, tried, and committed or rolled back."""
