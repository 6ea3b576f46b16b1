"""From source and series to RPMs, in a container without network."""
