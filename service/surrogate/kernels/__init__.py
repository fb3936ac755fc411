"""Neighbours, radial functions, couplings and the repulsive core, laid out for compiled kernels and evaluated there."""
