"""Whether a revision made the server slower: by the p99 of paired runs, and by the instructions of a fixed replay."""
