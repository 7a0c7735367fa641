"""Language models from and to other toolkits: one file a partner.

``importing``: the table of partners, and a checkpoint of what was read (``foreign``);
``read_hugging_face``, ``read_gguf`` (its tokenisers: ``gguf_pieces``): the files of a partner.
``trimming``: an imported LM without the pieces that a text never uses.
"""
