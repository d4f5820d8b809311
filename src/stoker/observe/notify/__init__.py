"""Telling receivers: what a notice looks like (formats), how it gets there (http, mail, apprise), by whom (post)."""
