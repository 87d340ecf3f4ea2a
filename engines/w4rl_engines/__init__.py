"""Engines that run one step of any module fast."""
