"""Push-T: a disc pushes a T-shaped block to a pose drawn on the table, seen from above."""
