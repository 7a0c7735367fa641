"""What a first pass leaves behind, read and written; and first passes that can be run from here.

In the order in which they build on each other:

- ``reading``: what the readers of several formats share (strict numbers and JSON, word tables)
- ``on_bad``: what happens to utterances of which nothing was found
- ``references``: reference texts and durations in the files of other toolkits
- ``formats``: n-best lists and lattices, one file a format, and FORMATS, the table of them
- ``decoders``: decoders that can be run from here, and the cuts of audio that they decode
- ``merge``: what shards of a command have written, as one
"""
