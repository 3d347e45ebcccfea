"""The fault campaign: portside under every fault we can make, against a ledger of what it promised.

``scripts/campaign`` runs it (``--help`` says how); `test_campaign.py` runs a short one in the tests. Each part is
a module with ``scenarios``: what goes wrong, and how to make it so. A scenario answers a row of the table: how often
the fault was injected, how many operations were checked, and how many were lost, torn or hung.
"""
