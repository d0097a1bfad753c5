"""Batches: pictures by the thousand, planned into a ledger of jobs and made by processes of their own."""
