"""Where data lies, how it is listed and split, the samples of it, and what is read from it."""
