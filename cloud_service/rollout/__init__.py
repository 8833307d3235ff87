"""Rollouts: a bundle's way through the fleet, ring by ring, and back again where it does worse than it may."""
