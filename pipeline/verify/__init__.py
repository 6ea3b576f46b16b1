"""Every check asked on every place."""
