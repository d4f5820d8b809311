"""How many replicas an endpoint should have, and why: `decide` in decide.py, the rest is what it is made of."""
