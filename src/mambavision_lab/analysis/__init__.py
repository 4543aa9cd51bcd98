"""What a network costs, and what a data set holds and its loader gives; knows no configs."""
