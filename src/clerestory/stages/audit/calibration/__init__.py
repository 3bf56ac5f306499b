"""How much an audit detects on the user's own data: faults are planted in a copy in memory, and the reports counted.

``images`` and ``texts`` make the faults, ``rounds`` plants each kind and asks the detectors, ``run`` measures recall
and precision and stores them as evidence, ``reading`` says what follows for an audit that reported nothing.
"""
