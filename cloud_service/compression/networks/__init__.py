"""The two families of networks that Tandem compresses: their shapes, their weights' names, and torch modules."""
