"""What a sign-off says and how it is bound: evidence, completeness, verdict, waivers, attestations."""
