"""Work in a fresh process: a runtime that crashes, prints, hangs or eats memory harms no one else.

``parent`` starts the process, listens to it and sees that it ends; ``child`` is the other side;
``messages`` are what the two say to each other. Measuring and exporting are built on it.
"""
