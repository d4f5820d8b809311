"""Makes dossiers: what every new revision must pass before it takes traffic, found out and signed by control.

needs.py     which revisions want one, read in one look
ask.py       requests to one replica over its own socket, timed
likeness.py  a language model beside the one that it was made from, on texts
golden.py    examples with known answers, asked of the new revision and of the one that serves
kept.py      kept requests of the endpoint, to be asked again
profile.py   time and memory of a replica of either, in turns
swap.py      what a revision said before it went (the strategy recreate)
gates.py     all gates of one revision, in order
runner.py    one task an endpoint, over and over, until every revision has its dossier
ends.py      how rollouts ended, appended to dossiers
policies.py  what policies say of a dossier
keys.py      the platform's key
"""
