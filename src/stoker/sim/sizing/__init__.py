"""How large an endpoint should be: what came, what is promised, what replicas cost, and the cheapest answer that holds.

slos.py        promises as shares of requests under a time
prices.py      what replicas cost by the hour
demand.py      recorded arrivals: the stretches that are simulated, drawn again by seed, multiplied
throughput.py  what one replica does at the most, and on a faster pool
trial.py       one range of replicas against one draw of the demand, in numbers
search.py      from trials to the cheapest range that holds surely
change.py      two ways on the same draws, and the difference
advice.py      whether an endpoint that runs could cost less
validation.py  how far a simulation was from what was measured
measured.py    what an engine takes, from what a platform measured of it
answer.py      the answer as values: what is printed, drawn and read by programs
words.py       numbers as people read them
chart.py       the pictures; page.py the page around them

Trials run in `sim/platform`, whose decisions are those that run live.
"""
