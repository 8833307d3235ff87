"""Who may look and act on the operator's page: users, sessions, forms, limits, and the log of actions."""
