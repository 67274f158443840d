"""What holds while things fail: each row does a real fault under load, and says what must hold and what was measured.

`python -m reliability` (`nox -s faults`) measures all rows at length and writes docs/reliability.md; the ordinary tests
measure each for a second or two. A new row is a function in a module of its kind here and a line in `rows.ROWS`.
"""
