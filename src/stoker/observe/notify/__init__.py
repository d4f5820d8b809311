"""Telling receivers: what a notice looks like (formats.py), how it gets there (http.py, mail.py), by whom (post.py)."""
