"""How a backbone is judged, one protocol a file, named like it."""
