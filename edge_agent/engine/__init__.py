"""What runs a model's graph, behind one protocol."""

from edge_agent.engine.engine import Engine

__all__ = ["Engine"]
