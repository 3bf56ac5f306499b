"""Notifications of incidents: which channels there are, and the delivery of what waits in the outbox."""
