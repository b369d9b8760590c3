"""The command line: parse, call, print. What is done is done elsewhere."""
