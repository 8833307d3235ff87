"""The operator's page: plain HTML made here, kept live by server-sent events."""
