"""Debian's packages through a private apt: the host's mirrors and keys, nothing of its configuration."""
