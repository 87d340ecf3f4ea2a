"""The robot: a servo with a clock of a thousandth of a second, arms behind one contract, and the loop of a policy."""
