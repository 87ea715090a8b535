"""Training a student from nothing, on labelled images."""
