"""Build patched glibc as RPMs and decide from evidence whether they may ship."""

__version__ = "1.0.0"
