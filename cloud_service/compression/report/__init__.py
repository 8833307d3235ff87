"""The report of a compression: a document for machines, and the same as one HTML page for people."""
