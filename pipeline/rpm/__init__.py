"""RPM packages: their headers, payloads, specs, transactions and the roots made from them."""

#: 2026-11-24, the date of the spec's changelog: no RPM carries the time it was built at.
SOURCE_DATE_EPOCH = "1795478400"
