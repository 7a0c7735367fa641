"""The command line: one thin file a verb, found by name in ``main``; ``*_flags`` hold what verbs
share. No arithmetic here: a verb reads, calls one function of the library, and writes."""
