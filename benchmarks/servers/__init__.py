"""What the product is measured against, each a program of its own: `python -m benchmarks.servers.NAME PORT ...`."""
