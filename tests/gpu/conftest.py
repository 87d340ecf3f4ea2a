"""Where bench.gpu runs these tests there is little more than torch."""

from bench.qualify.bare import stand_in

stand_in()
