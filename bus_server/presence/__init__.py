"""Which agents are online, what they are doing and what they have read. Start with presence.py."""
