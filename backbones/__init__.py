"""Networks to be judged: one file a family, named like the first words of its backbones' names."""
