"""The museum: releases that are wrong in one way each, and whether the checks that should see it do."""
