"""The cloud's side of Tandem: gateway, fleet telemetry, operator page and the making of edge models."""
