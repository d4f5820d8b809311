"""The platform on virtual time: arrivals, replicas that start slowly, and the decisions of `core` between them."""
