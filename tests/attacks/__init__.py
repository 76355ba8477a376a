"""Attacks on a running chat, over real HTTP: `python -m tests.attacks` tries them and counts.

Anna has conversations. Ben, who has a cookie, and a stranger, who has none, try to read, change, continue or stop them,
and other sites' pages try it with Anna's own cookie. Each case is something that was tried; it held when nothing of
Anna's was seen or changed, and when her thing was answered as a missing one is.
"""
