"""How often the diagnosis is right: faults in a simulated endpoint, and the causes that are named for them."""
