"""What the platform keeps of what it did, to be looked at: below control, above the stores.

history/     what every metric was, for 400 days; who asks needs port.py alone
query/       the language in which it is asked
objectives/  what was promised, how it stands, the watch that has receivers told (notify/)
incidents/   what went wrong, explained from the history, and its story
samples.py   requests and answers that were kept
drift/       whether data moved away from a reference
feedback/    predictions and what turned out to be true
"""
