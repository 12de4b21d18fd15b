"""One measuring loop for every engine, each variant in a fresh process that never saw the model.

``run`` is the front door (``measure``, ``evaluate``); ``comparison`` says what the numbers mean;
``rows`` writes them as JSON. Importing this package imports no runtime.
"""
