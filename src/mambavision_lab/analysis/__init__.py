"""Costs of a network: parameters, multiply-accumulates, memory and time; knows no configs."""
