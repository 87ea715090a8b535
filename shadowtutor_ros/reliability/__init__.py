"""Faults put into the running system, and what it makes of them."""
