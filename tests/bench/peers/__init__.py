"""Other engines with the same network, each in a process of its own; `bench_peers` measures them."""
