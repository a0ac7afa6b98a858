"""The benchmarks of bnstream, for asv: one operation and dtype per number, with NumPy beside each."""
