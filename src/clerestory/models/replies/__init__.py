"""Reads the replies of generators: which option, yes or no, or short answer a text in natural language means.

``keys`` compares texts, ``markup`` removes what surrounds an answer, ``lexicon`` has the words of several languages;
``labels`` and ``words`` find options in a text, ``polarity`` judges which of these it affirms, ``reading`` puts them
together.
"""
