"""A page to watch and steer students and teachers."""
