"""What is tracked, on disk in order until it is delivered; whoever delivers it is handed in. Knows nothing of MLflow.

OUTBOX/steps.json    highest step of each key that the server had before the outbox's first delivery
OUTBOX/0/            a part; there is a second one only where another process held the first
  outbox.json        run id and tracking URI
  journal.jsonl      one entry a line
  files/             pictures, checkpoint and model, until they are delivered
  delivered.json     bytes of the journal that are delivered
  refused.jsonl      entries that the server refused, with its reason
  reserve            space for the last entries on a full disk
  lock
"""
