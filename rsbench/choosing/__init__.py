"""From numbers to a choice: which network to take, on one's own data and machine.

From the bottom up: `shortlist` (networks whose weights are here, what they cost, which probes are
worth their minutes), `answer` (what the probes came to, in one sentence).
"""
