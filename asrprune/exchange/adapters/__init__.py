"""Our LMs inside the searches of other toolkits: thin layers, one file a partner, over one core.

- ``partner``: the partners' libraries, imported when an adapter is made
- ``tokens``: the list of tokens of a decoder against the pieces of the LM
- ``incremental``: the core: ln P of all tokens behind the states of a search, a batch at a time
- ``flashlight``: the LM of flashlight-text's decoders, which are torchaudio's, too
- ``pyctcdecode``: the language model of pyctcdecode
- ``espnet``: a scorer of ESPnet's beam searches
- ``speechbrain``: a rescorer and a scorer of SpeechBrain
- ``lm_scorer``: the LM of icefall's transducer searches
"""
