"""Gives devices the repository's files, in blocks over MQTT and by HTTP; what they hold is signed elsewhere."""
