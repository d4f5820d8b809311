"""What a new version must pass before it takes traffic, judged from what was read and measured. Pure.

schema.py    whether clients of one signature can use another
golden.py    examples with known answers: reading them, and what is sent for each
answers.py   what an answer says, beside what was expected
metrics.py   how good a model is on the examples, and whether another is surely worse
profile.py   whether one replica is surely slower or larger than another
law.py       which gates an endpoint has, and what their results make of a dossier
"""
