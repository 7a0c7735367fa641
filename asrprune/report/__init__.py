"""Tables and a self-contained page from the files of finished runs."""
