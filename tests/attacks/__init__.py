"""Attacks on a real network: `python -m tests.attacks --help`.

| file | what it is |
|---|---|
| `stage.py` | the network under attack: nodes, honest load and hostile processes |
| `honest.py` | the honest users, in a process of their own: miners and subscribers |
| `crowd.py` | many honest miners at once |
| `record.py` | what is known of the network since it started |
| `seen.py` | what the honest saw in one phase, and the rule that says `held` or `fell`; pure |
| `attack.py` | what an attack is made of |
| `plays/` | the attacks, one a module |
| `hostile.py` | the process that an attack's hostile side runs in |
| `flood.py`, `floods.py` | one stranger against one address, also by itself |
"""
