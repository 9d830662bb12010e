"""The solvers of frozen-feature protocols; they know arrays, and neither items nor networks."""
