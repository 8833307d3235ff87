"""The contract between the tiers: types, errors, bundle format, gate mathematics, codec and topics."""

__version__ = "0.1.0"
