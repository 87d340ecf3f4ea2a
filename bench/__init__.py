"""Benchmarks: each module is one program that checks what it times, and ends with one line of JSON."""
