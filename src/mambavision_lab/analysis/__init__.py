"""What a network costs: parameters, multiply-accumulates, memory and time."""
