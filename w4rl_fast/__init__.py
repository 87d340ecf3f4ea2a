"""w4rl_fast: diffusion world models fast enough to train robots in."""

__version__ = "0.1.0"
