"""Word pieces: what a tokenizer's kind needs of its vocabulary, and whether a smaller one still reads the same."""
