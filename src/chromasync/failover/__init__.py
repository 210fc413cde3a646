"""The day the primary dies: promotes the replica, and restores its content to a new server."""
