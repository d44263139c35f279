"""What `benchmarks/gpu.py` measures; each module has `cases`, in the order in which they matter."""
