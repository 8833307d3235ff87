"""Telemetry ingest: from what devices say over MQTT to booked counts."""
