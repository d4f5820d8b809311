"""Has replicas follow the load: every two seconds what gateways count becomes a decision of core/scale.

gather.py   what gateways, nodes and the history say, as one sight of each endpoint
promises.py how the times that objectives promise are kept, of language models
watch.py    one look after the other: decides, writes down what changed, remembers
"""
