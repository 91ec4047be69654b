"""Jobs of a plan: sent, collected, reconciled with the service, and their results."""
