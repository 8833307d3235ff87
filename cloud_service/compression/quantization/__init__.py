"""From trained weights to the numbers a device computes with: the precision of each product, and how it is reached."""
