"""The public ABI: listings in glibc's own notation, their difference, and the committed baselines."""
