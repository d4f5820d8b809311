"""How traffic moves from one revision to the next, and back. Pure.

table.py    phases, events, and which event leads from which phase to which: all that can happen, in one place
state.py    what is remembered of one rollout, and of what happened in it
course.py   strategies as data: steps, what is copied, what stays warm; what `auto` means now
inconclusive.py  when a step that could not be judged is over
reading.py  counts that only grow, of processes that come and go, as looks for the verdict
decide.py   one turn: what was seen → what happened → the next phase, the weights and how many replicas of each arm
"""
