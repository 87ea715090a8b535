"""Networks: the student, its inference path and the teachers."""
