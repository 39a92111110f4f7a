"""Keeps tracked data on disk, in order, until it is delivered. The delivery is passed in: nothing here uses MLflow.

OUTBOX/steps.json    highest step of each key that the server had before the outbox's first delivery
OUTBOX/0/            a part; there is a second one only if another process held the first
  outbox.json        run id and tracking URI
  journal.jsonl      one entry per line
  files/             pictures, checkpoint and model, until they are delivered
  delivered.json     bytes of the journal that are delivered
  refused.jsonl      entries that the server rejected, with its reason
  reserve            space for the last entries if the disk is full
  lock
"""
