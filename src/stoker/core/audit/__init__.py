"""The audit's decisions: what a change is told as, how rows are chained, and what tells that one was bent. Pure."""
