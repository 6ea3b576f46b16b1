"""What every room stands on: errors, paths, running programs, the store of results, outcomes and records."""
