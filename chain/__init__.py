"""The chain as the node sees it: reads, the weights call, and the rules both must follow."""
