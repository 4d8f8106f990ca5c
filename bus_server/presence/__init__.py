"""Which agents are here, what each does, and how far each has read. See presence.py first."""
