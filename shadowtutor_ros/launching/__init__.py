"""What the launch files share; it imports no PyTorch, so that a launch starts at once."""
