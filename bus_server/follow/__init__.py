"""WaitMessages: replay and live messages, as one stream of frames."""
