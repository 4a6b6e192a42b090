"""How fast and how large the control plane is: one module a command (`python -m bench.change`), all of them with `python -m bench`.

What belongs here: worlds of N Ingresses, clocks, tables, and the marks that results are held against. What does not: whether an answer is
right (tests/). Nothing here fails because something was slow: it is printed, and people judge. README.md has the results of a real run.
"""
