"""Watches what gates promised: audits, labels that came back and scores in, alarms and stricter orders out. Pure."""
