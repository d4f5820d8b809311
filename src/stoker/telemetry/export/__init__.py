"""What Prometheus and Grafana are told of the catalogue: queries, a board, rules, where to scrape."""
