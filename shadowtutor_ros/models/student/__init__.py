"""The student: the network that a robot runs."""
