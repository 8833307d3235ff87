"""What the field tells of the edge model: comparisons with the full model, true labels, hard cases. Pure."""
