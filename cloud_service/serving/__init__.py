"""Running full models: backends behind one protocol, and the batcher before them."""
