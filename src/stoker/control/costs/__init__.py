"""What serving costs: looked at while it is spent, made lines of by the hour, and told."""
