"""What several suites and tasks share; what only one suite needs is in its own folder."""
