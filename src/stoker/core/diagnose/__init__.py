"""Why an endpoint got worse: two windows of its numbers in, ranked causes with their evidence out. Pure."""
