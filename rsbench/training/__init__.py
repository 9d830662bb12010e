"""The one training loop; it knows networks and tensors, and neither items nor protocols."""
