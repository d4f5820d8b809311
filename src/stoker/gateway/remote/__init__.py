"""Servers of others, spoken to by the gateway itself: a pool of HTTP/1.1 connections each, and what is said on them."""
