"""Our LMs inside the searches of other toolkits: thin layers, one file a partner, over one core.

- ``incremental``: the core: ln P of all tokens behind the states of a search, a batch at a time
- ``tokens``: the list of tokens of a decoder against the pieces of the LM
"""
