"""What pytest leaves alone."""

collect_ignore = ["bench"]  # scripts that measure; --doctest-modules would import them
